"""Edits of clips: frames, and in each of them what may change.

Everything that is done to clips is of this one form: to go on from a picture or from frames, to
draw what lies between two, to draw within a box that may move, or around it, or to change what is
there towards a prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from unmask.clips.clip import Clip
from unmask.clips.limits import ClipLimits
from unmask.editing.edits import (
    DEFAULT_SHARE,
    DEFAULT_STRENGTH,
    WHITE,
    AnyEdit,
    Indices,
    Mask,
    MaskMode,
    margins,
    read_mask,
)
from unmask.errors import RequestError
from unmask.images import on_white, upright

ClipKind = Literal[
    "extend", "interpolate", "through", "inpaint", "outpaint", "restyle", "revise", "pin"
]
Frames = NDArray[np.uint8]
FrameMasks = NDArray[np.bool_]
Masks = FrameMasks | Sequence[Image.Image] | Image.Image  # as they are given
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
MAX_FRAMES = 1 + 4 * 120  # of a clip that is drawn: a minute of 8 frames a second
MAX_CLIP_PIXELS = ClipLimits().max_clip_pixels  # of all frames together
MAX_WINDOW_FRAMES = 2048  # of one that is larger than what a model draws: as often as that is drawn


@dataclass(frozen=True, eq=False)
class ClipEdit(AnyEdit):
    """Frames (frames, height, width, 3) and where they may change, True in ``masks`` (frames,
    height, width); make one with the functions below. What is not masked comes back byte for byte.

    Values out of bounds raise RequestError, whose ``param`` is the field of that function.
    """

    kind: ClipKind
    frames: Frames
    masks: FrameMasks
    strength: float = 1.0
    share: float | None = None

    def __post_init__(self) -> None:
        check_frames(len(self.frames))
        if self.masks.shape != self.frames.shape[:3]:
            raise RequestError(
                f"mask: {_shape(self.masks)}, but the clip has {_shape(self.frames)}; make them "
                "alike",
                "mask",
            )
        if not self.masks.any():
            raise RequestError("mask: it selects nothing, so there is nothing to draw", "mask")
        self._check_shares()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def keeps_alpha(self) -> bool:
        """Whether the result has transparency: clips have none."""
        return False

    @property
    def mask(self) -> Mask:
        """Where any of the frames may change (height, width)."""
        changing: Mask = np.logical_or.reduce(self.masks, 0)
        return changing

    def cut(self, rows: Indices, columns: Indices) -> "ClipEdit":
        """The part of it at these rows and columns of pixels, in which something may change."""
        here = np.s_[:, rows[:, None], columns]
        return replace(self, frames=self.frames[here], masks=self.masks[here])

    def pictures(self) -> list[Image.Image]:
        """What is drawn over."""
        return [Image.fromarray(frame) for frame in self.frames]

    def summary(self) -> dict[str, Any]:
        """What tells this edit from another, without its pixels: for logs, answers and files."""
        return self._summary(0, self.frames, self.masks)


def check_frames(frames: int, param: str = "frames") -> None:
    """RequestError unless a clip that is drawn may have so many."""
    if not 1 <= frames <= MAX_FRAMES:
        raise RequestError(f"{param} is {frames}; it must lie between 1 and {MAX_FRAMES}", param)


def fitted(clip: Clip, size: tuple[int, int]) -> Clip:
    """The clip with frames of that (width, height), scaled and cut to the middle if they are not
    so already. RequestError for more pixels than a clip may have."""
    if clip.size == size:
        return clip
    if not 0 < size[0] * size[1] * len(clip) <= MAX_CLIP_PIXELS:
        raise RequestError(
            f"size {size[0]}x{size[1]}: a clip of {len(clip)} frames may have 1 to "
            f"{MAX_CLIP_PIXELS // len(clip)} pixels in each",
            "size",
        )
    pictures = [
        ImageOps.fit(picture, size, Image.Resampling.LANCZOS) for picture in clip.pictures()
    ]
    return Clip.of_pictures(pictures, clip.rate, clip.comment)


def fitted_masks(masks: FrameMasks, size: tuple[int, int]) -> FrameMasks:
    """Masks (frames, height, width), scaled and cut as ``fitted`` does with their clip."""
    if masks.shape[1:] == (size[1], size[0]):
        return masks
    shown = np.repeat(masks[..., None].astype(np.uint8) * 255, 3, 3)
    return fitted(Clip(shown, 1), size).frames[..., 0] >= WHITE


def still_clip(picture: Image.Image, size: tuple[int, int], rate: float) -> Clip:
    """A clip of one frame, fitted to the size; what is transparent is white."""
    return fitted(Clip.of_pictures([on_white(upright(picture, "image"))], rate), size)


def extend(clip: Clip, frames: int) -> ClipEdit:
    """Go on for so many frames more. A picture goes on as a clip of one frame."""
    if frames < 1:
        raise RequestError(f"frames is {frames}; the least is 1", "frames")
    check_frames(len(clip) + frames)
    height, width = clip.frames.shape[1:3]
    more = np.repeat(clip.frames[-1:], frames, 0)
    masks = np.zeros((len(clip) + frames, height, width), bool)
    masks[len(clip) :] = True
    return ClipEdit("extend", np.concatenate([clip.frames, more]), masks)


def interpolate(first: Clip, last: Clip, frames: int) -> ClipEdit:
    """The ``frames`` frames that begin with one clip, or picture, and end with another."""
    if first.size != last.size:
        raise RequestError(
            f"last: {last.size[0]}x{last.size[1]} pixels, but the first has "
            f"{first.size[0]}x{first.size[1]}; make them alike",
            "last",
        )
    check_frames(frames)
    between = frames - len(first) - len(last)
    if between < 1:
        raise RequestError(
            f"frames is {frames}; between {len(first)} and {len(last)} given ones there must be "
            "one at least",
            "frames",
        )
    shown = np.concatenate([first.frames, np.repeat(first.frames[-1:], between, 0), last.frames])
    masks = np.zeros(shown.shape[:3], bool)
    masks[len(first) : frames - len(last)] = True
    return ClipEdit("interpolate", shown, masks)


def pin(pictures: Mapping[int, Clip], frames: int) -> ClipEdit:
    """The ``frames`` frames among which these are given, by their number from 0: each a picture, as
    a clip of one frame, or a clip that begins there. Frames that are not the last of a slot are for
    a model that takes hints."""
    check_frames(frames)
    _check_given(pictures)
    size = next(iter(pictures.values())).frames.shape[1:]
    return _with_pictures("pin", np.full((frames, *size), 128, np.uint8), pictures)


def interpolate_through(
    clip: Clip,
    pictures: Mapping[int, Clip],
    strength: float | None = None,
    share: float | None = None,
) -> ClipEdit:
    """The clip with these frames in the place of its own, as of ``pin``: its first and its last
    one, say, that were edited. Of all other tokens the share ``strength`` is drawn anew, half of
    them if it is None, and the rest is kept, and with it the motion; with 1 nothing of them is
    seen. With a ``share`` instead they are revised, as by ``revise_clip``."""
    _check_given(pictures)
    if strength is not None and share is not None:
        raise RequestError("share: give it or a strength, not both", "share")
    if strength is None:
        strength = DEFAULT_STRENGTH if share is None else 1.0
    return _with_pictures("through", clip.frames.copy(), pictures, strength, share)


def _check_given(pictures: Mapping[int, Clip]) -> None:
    if not pictures:
        raise RequestError("at: no frame is given; give one at least", "at")


def _with_pictures(
    kind: ClipKind,
    frames: Frames,
    pictures: Mapping[int, Clip],
    strength: float = 1.0,
    share: float | None = None,
) -> ClipEdit:
    """An edit of these frames, into which the pictures are put, that may change all others."""
    masks = np.ones(frames.shape[:3], bool)
    height, width = frames.shape[1:3]
    for first, clip in pictures.items():
        end = first + len(clip)
        if not 0 <= first < end <= len(frames):
            raise RequestError(
                f"at: frames {first} to {end - 1}; a clip of {len(frames)} has 0 to "
                f"{len(frames) - 1}",
                "at",
            )
        if clip.size != (width, height):
            raise RequestError(
                f"at: frame {first} has {clip.size[0]}x{clip.size[1]} pixels, another "
                f"{width}x{height}; make them alike",
                "at",
            )
        if not masks[first:end].all():
            raise RequestError(f"at: frame {first} is given twice; once is enough", "at")
        frames[first:end], masks[first:end] = clip.frames, False
    return ClipEdit(kind, frames, masks, strength, share)


def check_pinned(edit: ClipEdit, slot: int) -> None:
    """RequestError for a pinned frame between two key frames, ``slot`` apart, that the second does
    not know of: what a model without hints cannot take. A clip that comes first may end there, as
    one that is extended may."""
    masked = edit.masks.any((1, 2))
    begun = int(masked.argmax())  # frames before the first that is masked
    given = np.flatnonzero(~masked).tolist()
    for frame in given[begun:]:
        key = min(-(-frame // slot) * slot, len(edit.frames) - 1)
        if key not in given:
            raise RequestError(
                f"at: frame {frame}; this model was trained without hints, and takes one between "
                f"two key frames only if frame {key}, the next of them, is given too",
                "at",
            )


def inpaint_clip(clip: Clip, masks: Masks) -> ClipEdit:
    """Draw anew what the masks select, unseen."""
    return ClipEdit("inpaint", clip.frames, read_masks(masks, clip))


def outpaint_clip(
    clip: Clip,
    boxes: FrameMasks | None = None,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
) -> ClipEdit:
    """Draw so many pixels more on each side of the clip, and of the clip all that lies outside what
    is known, True in ``boxes`` (frames, height, width); None: it is known as it is."""
    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    around = ((0, 0), *margins(sides, clip.size, MAX_CLIP_PIXELS // len(clip)))
    known = np.ones(clip.frames.shape[:3], bool) if boxes is None else boxes
    return ClipEdit("outpaint", np.pad(clip.frames, (*around, (0, 0))), ~np.pad(known, around))


def restyle_clip(clip: Clip, strength: float, masks: Masks | None = None) -> ClipEdit:
    """Draw so large a share of the tokens anew, chosen at random; of those that masks select, if
    there are any."""
    return ClipEdit("restyle", clip.frames, read_masks(masks, clip), strength)


def revise_clip(clip: Clip, share: float = DEFAULT_SHARE, masks: Masks | None = None) -> ClipEdit:
    """Change the clip towards the prompt: its tokens are the start, and so large a share of them is
    masked and drawn again at every step. Masks bound where."""
    return ClipEdit("revise", clip.frames, read_masks(masks, clip), share=share)


def boxes_through(first: Box, last: Box | None, clip: Clip, param: str = "box") -> FrameMasks:
    """True within a box (frames, height, width) that moves evenly from where it is in the first
    frame to where it is in the last; it stays if ``last`` is None. RequestError, naming ``param``
    or ``last_`` and that."""
    width, height = clip.size
    for name, box in ((param, first), (f"last_{param}", last)):
        if box is not None and not (
            0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
        ):
            raise RequestError(
                f"{name}: {list(box)}; give left, top, right, bottom within {width}x{height}", name
            )
    inside = np.zeros(clip.frames.shape[:3], bool)
    ends = np.linspace(first, first if last is None else last, len(clip)).round().astype(int)
    for frame, (left, top, right, bottom) in zip(inside, ends.tolist(), strict=True):
        frame[top:bottom, left:right] = True
    return inside


def read_masks(masks: Masks | None, clip: Clip, mode: MaskMode = "auto") -> FrameMasks:
    """Masks (frames, height, width) of a clip: a picture for all frames, that selects as it does of
    a picture; or one a frame, that select by white. None selects everything."""
    if masks is None:
        return np.ones(clip.frames.shape[:3], bool)
    if isinstance(masks, np.ndarray):
        return masks.astype(bool)
    if isinstance(masks, Image.Image):
        return np.repeat(read_mask(masks, mode)[None], len(clip), 0)
    pictures = list(masks)
    if len(pictures) not in (1, len(clip)):
        raise RequestError(
            f"mask: {len(pictures)} frames; give 1 for all, or {len(clip)}, one a frame", "mask"
        )
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise RequestError(f"mask: {len(sizes)} sizes; give frames of one", "mask")
    selected = np.stack([np.asarray(upright(p, "mask").convert("L")) >= WHITE for p in pictures])
    return np.repeat(selected, len(clip), 0) if len(pictures) == 1 else selected


def select(
    clip: Clip,
    mask: Image.Image | Clip | None,
    mode: MaskMode = "auto",
    box: Box | None = None,
    last_box: Box | None = None,
    param: str = "box",
) -> FrameMasks | None:
    """Masks (frames, height, width) of what a mask or a box, of the name ``param``, selects of a
    clip; None if there is neither."""
    if box is None and last_box is not None:
        raise RequestError(
            f"last_{param}: it says where {param} moves to; give that too", f"last_{param}"
        )
    if box is not None and mask is not None:
        raise RequestError("box: there is a mask too; give one of them", "box")
    if mode != "auto" and not isinstance(mask, Image.Image):
        raise RequestError(
            f"mask_mode is {mode}: it tells how to read a mask that is a still picture, and there "
            "is none; leave it auto",
            "mask_mode",
        )
    if box is not None:
        return boxes_through(box, last_box, clip, param)
    if mask is None:
        return None
    if mask.size != clip.size:
        raise RequestError(
            f"mask: it has {mask.size[0]}x{mask.size[1]} pixels, but the clip "
            f"{clip.size[0]}x{clip.size[1]}; make them alike",
            "mask",
        )
    return read_masks(mask.pictures() if isinstance(mask, Clip) else mask, clip, mode)


def _shape(array: NDArray[np.generic]) -> str:
    frames, height, width = array.shape[:3]
    return f"{frames} frames of {width}x{height}"
