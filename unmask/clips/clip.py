"""A clip: frames with a rate, what is shown of it, and its file."""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unmask.clips.formats import ENDINGS, FORMATS, ClipFormat
from unmask.errors import RequestError, choices, look_up

FRAME_FILE = "frame-{:04d}.png"  # of a folder of frames
FRAME_FILES = re.compile(r"frame-\d{4,}\.png")
MOST_IN_STRIP = 17  # frames; more are too small to see side by side


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames ``(frames, height, width, 3)``, uint8, RGB, and how many are shown a second.

    ``comment`` goes into its files, as the parameters of a picture go into a png; it is not read
    back. RequestError for frames of another shape or kind, and for a rate that is not above 0.
    """

    frames: NDArray[np.uint8]
    rate: float
    comment: str = ""

    def __post_init__(self) -> None:
        shape, kind = self.frames.shape, self.frames.dtype
        if len(shape) != 4 or shape[3] != 3 or 0 in shape or kind != np.uint8:
            raise RequestError(
                f"frames: {kind} of shape {shape}; give uint8 of (frames, height, width, 3)",
                "frames",
            )
        if not 0 < self.rate < float("inf"):
            raise RequestError(f"rate {self.rate}: give frames a second, above 0", "rate")

    @classmethod
    def of_pictures(cls, pictures: Sequence[Image.Image], rate: float, comment: str = "") -> Self:
        """The clip that shows these pictures, one after another; all of the first one's size."""
        sizes = {picture.size for picture in pictures}
        if len(sizes) != 1:
            raise RequestError(f"pictures: {len(sizes)} sizes; a clip has one", "pictures")
        frames = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
        return cls(frames, rate, comment)

    @classmethod
    def of_spritesheet(cls, sheet: Image.Image, frames: int, rate: float) -> Self:
        """The clip of so many frames whose ``spritesheet`` this is."""
        columns, rows = _cells(frames)
        width, height = sheet.width // columns, sheet.height // rows
        grid = np.asarray(sheet.convert("RGB")).reshape(rows, height, columns, width, 3)
        cells = grid.swapaxes(1, 2).reshape(rows * columns, height, width, 3)
        return cls(np.ascontiguousarray(cells[:frames]), rate)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def seconds(self) -> float:
        """How long it lasts; every frame is shown equally long, the last one too."""
        return len(self) / self.rate

    def pictures(self) -> list[Image.Image]:
        """Every frame as a picture."""
        return [Image.fromarray(frame) for frame in self.frames]

    def thumbnail(self) -> Image.Image:
        """The frame in the middle: at the start there may be nothing to see yet."""
        return Image.fromarray(self.frames[len(self) // 2])

    def sheet(self, most: int = MOST_IN_STRIP) -> Image.Image:
        """A strip: frames in one row, the first and the last among them, evenly spread if there
        are more than ``most``.
        """
        shown = np.linspace(0, len(self) - 1, min(max(most, 1), len(self))).round().astype(int)
        return Image.fromarray(np.concatenate(list(self.frames[shown]), axis=1))

    def spritesheet(self) -> Image.Image:
        """All frames, row by row, as near to a square as can be; cells left over are black."""
        columns, rows = _cells(len(self))
        (width, height), cells = self.size, rows * columns
        sheet = np.zeros((cells, height, width, 3), np.uint8)
        sheet[: len(self)] = self.frames
        grid = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
        return Image.fromarray(grid.reshape(rows * height, columns * width, 3))

    def encode(self, name: str) -> bytes:
        """The bytes of a file of the format ``name``: mp4, webm, webp, gif or apng.

        RequestError for another name, for a rate that the format cannot hold, and, of its kind
        MissingExtraError, where the format needs an extra that is not installed. The same clip
        gives the same bytes wherever the same libraries are installed.
        """
        return look_up("format", FORMATS, name).encode(self.frames, self.rate, self.comment)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a file in the format of its ending, whole or not at all; or, if the path has no
        ending, a folder of png files.

        RequestError for an ending that is not known, for what exists already unless ``force``, and
        for what the system refuses.
        """
        path = Path(path)
        try:
            if not path.suffix:
                self._save_frames(path, force)
                return
            form = _format_of(path)
            if path.exists() and not force:
                raise _exists(path)
            _write_whole(path, form.encode(self.frames, self.rate, self.comment))
        except OSError as error:
            raise RequestError(f"output {path}: {error.strerror}", "output") from None

    def _save_frames(self, folder: Path, force: bool) -> None:
        folder.mkdir(exist_ok=True)
        there = [file for file in folder.iterdir() if FRAME_FILES.fullmatch(file.name)]
        if there and not force:
            raise _exists(folder / FRAME_FILE.format(0))
        for file in there:  # those of a longer clip would be taken for this one's
            file.unlink()
        for number, picture in enumerate(self.pictures()):
            picture.save(folder / FRAME_FILE.format(number))


def _cells(frames: int) -> tuple[int, int]:
    """Columns and rows of a sheet of so many frames."""
    columns = int(np.ceil(np.sqrt(frames)))
    return columns, -(-frames // columns)


def _format_of(path: Path) -> ClipFormat:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        said = choices(ending, ENDINGS)
        raise RequestError(f"output {path}: {said}, or no ending for a folder of frames", "output")
    return FORMATS[ENDINGS[ending]]


def _exists(path: Path) -> RequestError:
    return RequestError(f"output {path}: it exists; force writes over it", "output")


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside the file, then rename: who reads it sees the old one or the new one."""
    target = path.resolve()  # a link stays one
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as folder:
        draft = Path(folder) / target.name
        draft.write_bytes(data)
        os.replace(draft, target)
