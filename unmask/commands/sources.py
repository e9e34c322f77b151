"""What is edited: a still picture or a clip, told apart by content, and what is selected of it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from unmask.clips.clip import Clip
from unmask.commands.output import MAX_FILE_BYTES, STANDARD
from unmask.errors import RequestError

if TYPE_CHECKING:
    from unmask.editing import ClipEdit, FrameMasks, MaskMode
    from unmask.pipeline import ModelInfo

Source = Image.Image | Clip


def read_source(path: Path, param: str = "image") -> Source:
    """The still picture that a file, or standard input, holds; or the clip, at the rate at which
    clips are drawn. RequestError, naming ``param``, if it cannot be read or is neither."""
    from unmask.clips.kinds import FILMS, kind_of
    from unmask.clips.reading import read_clip
    from unmask.containers import pixels_of
    from unmask.editing import MAX_PIXELS
    from unmask.images import ImageLimits, read_file, read_image
    from unmask.pipeline import RATE

    if path == STANDARD:
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    else:
        data = read_file(path, param, MAX_FILE_BYTES)
    pixels = pixels_of(data)
    if kind_of(data) in (*FILMS, "gif") or (pixels is not None and pixels.frames > 1):
        return read_clip(data, param, rate=RATE)
    return read_image(data, param, ImageLimits(MAX_FILE_BYTES, MAX_PIXELS))


def read_sources(
    first: Path, second: Path | None, params: tuple[str, str]
) -> tuple[Source, Source | None]:
    """Two of them, if there is a second; one of them may be standard input."""
    if first == second == STANDARD:
        raise RequestError(
            f"{params[0]} and {params[1]}: only one of them can come from standard input", params[1]
        )
    return read_source(first, params[0]), None if second is None else read_source(second, params[1])


def clip_for(info: "ModelInfo", source: Source, param: str = "image") -> Clip:
    """The clip, or the picture as a clip of one frame, with frames of the model's size; it is told
    if they were fitted to it."""
    from unmask.editing import fitted, still_clip
    from unmask.pipeline import RATE

    size = (info.width, info.height)
    if source.size != size:
        width, height = source.size
        print(
            f"unmask: {param}: {width}x{height} pixels, fitted to the {size[0]}x{size[1]} of the "
            "model",
            file=sys.stderr,
        )
    return fitted(source, size) if isinstance(source, Clip) else still_clip(source, size, RATE)


@dataclass(frozen=True)
class Region:
    """What is selected of what is edited, as it was asked for."""

    mask: Source | None
    mask_mode: "MaskMode"
    feather: int
    box: str | None
    last_box: str | None

    def of_picture(self) -> Image.Image | None:
        """The mask of a picture; RequestError for what only clips can have."""
        for name, box in (("box", self.box), ("last_box", self.last_box)):
            if box is not None:
                raise RequestError(f"{name}: it is for clips, and the image is a still one", name)
        if isinstance(self.mask, Clip):
            raise RequestError(
                f"mask: it has {len(self.mask)} frames, and the image is a still one", "mask"
            )
        return self.mask

    def needed(self) -> None:
        """RequestError if nothing was selected."""
        if self.mask is None and self.box is None:
            raise RequestError("box: it is needed, as the clip has no mask; give L,T,R,B", "box")

    def edits(
        self, source: Clip, edit: "Callable[[Clip, Any], ClipEdit]"
    ) -> "Callable[[ModelInfo], dict[str, Any]]":
        """What is asked for of a model: the edit of the clip and of its masks, which are None if
        nothing is selected."""
        masks = self._masks(source)

        def wanted(info: "ModelInfo") -> dict[str, Any]:
            from unmask.editing import fitted_masks

            clip = clip_for(info, source)
            return {"edit": edit(clip, None if masks is None else fitted_masks(masks, clip.size))}

        return wanted

    def _masks(self, clip: Clip) -> "FrameMasks | None":
        """Those of a clip, in its own pixels."""
        from unmask.editing import boxes_through, read_masks

        if self.feather:
            raise RequestError(
                f"feather is {self.feather}: clips are edited without; leave it 0", "feather"
            )
        if self.box is None and self.last_box is not None:
            raise RequestError("last_box: it says where --box moves to; give that too", "last_box")
        if self.box is not None and self.mask is not None:
            raise RequestError("box: there is a mask too; give one of them", "box")
        if self.mask_mode != "auto" and not isinstance(self.mask, Image.Image):
            raise RequestError(
                f"mask_mode is {self.mask_mode}: it tells how to read a mask that is a still "
                "picture, and there is none; leave it auto",
                "mask_mode",
            )
        if self.box is not None:
            last = None if self.last_box is None else _box(self.last_box, "last_box")
            return boxes_through(_box(self.box, "box"), last, clip)
        if self.mask is None:
            return None
        if self.mask.size != clip.size:
            raise RequestError(
                f"mask: it has {self.mask.size[0]}x{self.mask.size[1]} pixels, but the clip "
                f"{clip.size[0]}x{clip.size[1]}; make them alike",
                "mask",
            )
        frames = self.mask.pictures() if isinstance(self.mask, Clip) else self.mask
        return read_masks(frames, clip, self.mask_mode)


def read_region(
    image: Path,
    mask: Path | None,
    mask_mode: "MaskMode",
    feather: int,
    box: str | None,
    last_box: str | None,
) -> tuple[Source, Region]:
    """What is edited, and what is selected of it."""
    source, selected = read_sources(image, mask, ("image", "mask"))
    return source, Region(selected, mask_mode, feather, box, last_box)


def _box(text: str, param: str) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = map(int, text.split(","))
    except ValueError:
        raise RequestError(
            f"{param} {text[:80]!r}: give left, top, right, bottom in pixels, as 16,0,48,64", param
        ) from None
    return left, top, right, bottom
