"""Editing: a picture of any size is drawn over, window by window, with a model of one small grid.

``edits`` says what is to change, ``windows`` where and in which order it is drawn, ``paint`` what
lies around and under it, and ``drawing`` puts them together.
"""

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
    "Edit",
    "EditedImage",
    "MaskMode",
    "PreparedEdit",
    "Window",
    "WindowPlan",
    "has_transparency",
    "image_to_image",
    "inpaint",
    "masked_cells",
    "outpaint",
    "plan_windows",
    "prepare",
    "revise",
    "variation",
    "window_count",
]
