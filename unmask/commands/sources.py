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
    from unmask.clips.limits import ClipLimits
    from unmask.clips.reading import read_picture_or_clip
    from unmask.editing import MAX_PIXELS
    from unmask.images import ImageLimits, read_file
    from unmask.pipeline import RATE

    if path == STANDARD:
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    else:
        data = read_file(path, param, MAX_FILE_BYTES)
    limits = ImageLimits(MAX_FILE_BYTES, MAX_PIXELS)
    return read_picture_or_clip(data, param, limits, ClipLimits(), RATE)


def read_sources(**paths: Path | None) -> tuple[Source | None, ...]:
    """Several of them, by their params, as far as they are given; one may be standard input."""
    standard = [param for param, path in paths.items() if path == STANDARD]
    if len(standard) > 1:
        raise RequestError(
            f"{' and '.join(standard)}: only one of them can come from standard input", standard[1]
        )
    given = paths.items()
    return tuple(None if path is None else read_source(path, param) for param, path in given)


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
    size: str | None  # that the frames of a clip get first

    def of_picture(self) -> Image.Image | None:
        """The mask of a picture; RequestError for what only clips can have."""
        options = {"box": self.box, "last_box": self.last_box, "size": self.size}
        for name, value in options.items():
            if value is not None:
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

    def fitted(self, clip: Clip) -> Clip:
        """The clip at the size that was asked for."""
        from unmask.editing import fitted

        return clip if self.size is None else fitted(clip, read_size(self.size))

    def edits(
        self, source: Clip, edit: "Callable[[Clip, Any], ClipEdit]"
    ) -> "Callable[[ModelInfo], dict[str, Any]]":
        """What is asked for of a model: the edit of the clip and of its masks, which are None if
        nothing is selected."""
        from unmask.editing import fitted_masks

        masks, clip = self._masks(source), self.fitted(source)
        made = edit(clip, None if masks is None else fitted_masks(masks, clip.size))
        return lambda info: {"edit": made}

    def _masks(self, clip: Clip) -> "FrameMasks | None":
        """Those of a clip, in its own pixels."""
        from unmask.editing import select

        if self.feather:
            raise RequestError(
                f"feather is {self.feather}: clips are edited without; leave it 0", "feather"
            )
        box = None if self.box is None else _box(self.box, "box")
        last = None if self.last_box is None else _box(self.last_box, "last_box")
        return select(clip, self.mask, self.mask_mode, box, last)


def read_region(
    image: Path,
    mask: Path | None,
    mask_mode: "MaskMode",
    feather: int,
    box: str | None,
    last_box: str | None,
    size: str | None,
) -> tuple[Source, Region]:
    """What is edited, and what is selected of it."""
    source, selected = read_sources(image=image, mask=mask)
    assert source is not None, "it was given"
    return source, Region(selected, mask_mode, feather, box, last_box, size)


def read_size(text: str) -> tuple[int, int]:
    """Width and height of WxH; RequestError."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RequestError(f"size {text[:80]!r}: give WxH in pixels, as 128x64", "size")
    return int(width), int(height)


def _box(text: str, param: str) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = map(int, text.split(","))
    except ValueError:
        raise RequestError(
            f"{param} {text[:80]!r}: give left, top, right, bottom in pixels, as 16,0,48,64", param
        ) from None
    return left, top, right, bottom
