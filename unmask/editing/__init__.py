"""Editing: a picture of any size is drawn over, window by window, with a model of one small grid.

``edits`` says what is to change, ``windows`` where and in which order it is drawn, ``paint`` what
lies around and under it, and ``drawing`` puts them together.
"""

from unmask.editing.clip_edits import (
    ClipEdit,
    FrameMasks,
    boxes_through,
    extend,
    fitted,
    fitted_masks,
    inpaint_clip,
    interpolate,
    outpaint_clip,
    pin,
    read_masks,
    restyle_clip,
    revise_clip,
    still_clip,
)
from unmask.editing.drawing import EditedImage, PreparedEdit, Window, prepare
from unmask.editing.edits import (
    DEFAULT_SHARE,
    DEFAULT_STRENGTH,
    EDIT_KINDS,
    MAX_DRAWN_PIXELS,
    MAX_FEATHER,
    MAX_PIXELS,
    Edit,
    MaskMode,
    has_transparency,
    image_to_image,
    inpaint,
    outpaint,
    revise,
    variation,
)
from unmask.editing.windows import WindowPlan, masked_cells, plan_windows, window_count

__all__ = [
    "DEFAULT_SHARE",
    "DEFAULT_STRENGTH",
    "EDIT_KINDS",
    "MAX_DRAWN_PIXELS",
    "MAX_FEATHER",
    "MAX_PIXELS",
    "ClipEdit",
    "Edit",
    "EditedImage",
    "FrameMasks",
    "MaskMode",
    "PreparedEdit",
    "Window",
    "WindowPlan",
    "boxes_through",
    "extend",
    "fitted",
    "fitted_masks",
    "has_transparency",
    "image_to_image",
    "inpaint",
    "inpaint_clip",
    "interpolate",
    "masked_cells",
    "outpaint",
    "outpaint_clip",
    "pin",
    "plan_windows",
    "prepare",
    "read_masks",
    "restyle_clip",
    "revise",
    "revise_clip",
    "still_clip",
    "variation",
    "window_count",
]
