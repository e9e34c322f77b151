"""What the commands read and write: pictures as files, or as standard input and output."""

import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from PIL import Image

from unmask.clips.clip import FRAME_FILE, FRAME_FILES, Clip
from unmask.errors import RequestError, choices

if TYPE_CHECKING:
    from unmask.encoding import ImageFormat
    from unmask.pipeline import Drawn, DrawRequest, Generated

FORMATS: "dict[str, ImageFormat]" = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}
STANDARD = Path("-")  # standard input, or output
MAX_FILE_BYTES = 64 << 20  # of pictures to edit
TRIED_BYTES = 1 << 16  # written and taken back before drawing: a full disk has no room for them
QUALITY = 95  # of webp and jpeg files; more only makes them larger


def read_picture(path: Path, param: str = "image") -> Image.Image:
    """A picture file, or standard input; RequestError, naming ``param``, if it cannot be read or is
    no picture."""
    from unmask.editing import MAX_PIXELS
    from unmask.images import ImageLimits, read_image

    limits = ImageLimits(MAX_FILE_BYTES, MAX_PIXELS)
    if path == STANDARD:
        return read_image(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), param, limits)
    return read_image(path, param, limits)


@dataclass(frozen=True)
class Sheet:
    """One file to write, and the request that draws what is in it."""

    path: Path
    request: "DrawRequest"
    content: "Drawn"


@dataclass(frozen=True)
class Output:
    """Where pictures go: one grid a prompt, or with ``separate`` a file each. Or where ``clips``
    go, a file each; where pictures do, of a clip its strip goes."""

    path: Path
    separate: bool
    force: bool  # write over files that are there
    clips: bool = False

    @property
    def image_format(self) -> "ImageFormat":
        """That of the name; standard output gets png."""
        return "png" if self.path == STANDARD else FORMATS[self.path.suffix.lower()]

    @property
    def clip_format(self) -> str | None:
        """That of the name; standard output gets webp, and a folder has none."""
        from unmask.clips.formats import ENDINGS

        return "webp" if self.path == STANDARD else ENDINGS.get(self.path.suffix.lower())

    @property
    def _is_folder(self) -> bool:
        """Whether frames are written into a folder, as pictures."""
        return self.clips and self.path != STANDARD and not self.path.suffix

    def check(self, prompts: int, indices: range) -> None:
        """RequestError for what could not be written, found before any time is spent on drawing."""
        if not self.path.name:
            self._refuse("it is a folder; name a file")
        paths = [
            self._path(number, index, prompts)
            for number in range(prompts)
            for index in (indices if self.separate else indices[:1])
        ]
        if self.path == STANDARD:
            if len(paths) > 1 or self.separate:
                what = "clip" if self.clips else "picture"
                self._refuse(f"standard output takes one {what}; give a file")
            return
        self._check_format()
        if not self.path.parent.is_dir():
            self._refuse(f"there is no folder {self.path.parent}")
        for path in paths:
            try:
                is_folder, is_there = path.is_dir(), path.exists()
            except OSError as error:  # such as a name that is too long
                raise RequestError(f"output {path}: {error.strerror}", "output") from None
            if self._is_folder and is_folder:
                is_there = any(FRAME_FILES.fullmatch(file.name) for file in path.iterdir())
            elif self._is_folder and is_there:
                raise RequestError(f"output {path}: it is a file; name a folder", "output")
            elif is_folder:
                raise RequestError(f"output {path}: it is a folder", "output")
            if is_there and not self.force:
                raise RequestError(f"output {path}: it exists; --force writes over it", "output")
        self._write(bytes(TRIED_BYTES), None)

    def _check_format(self) -> None:
        """RequestError for a name of no format, or of one that cannot be written here."""
        from unmask.clips.formats import ENDINGS

        endings = ENDINGS if self.clips else FORMATS
        if not self._is_folder and self.path.suffix.lower() not in endings:
            suffix = self.path.suffix
            ending = f"nothing is written as {suffix}" if suffix else "no ending"
            folder = ", or no ending for a folder of frames" if self.clips else ""
            self._refuse(f"{ending}; {choices(suffix, endings)}{folder}")
        if self.clips and self.clip_format is not None:
            from unmask.pipeline import RATE

            # The encoders of films are an extra, and each build of it has others.
            Clip.of_pictures([Image.new("RGB", (16, 16))], RATE).encode(self.clip_format)

    def check_alpha(self, keeps_alpha: bool) -> None:
        """RequestError if the pictures have transparency and the format has none."""
        if keeps_alpha and self.image_format == "jpeg":
            self._refuse("jpeg has no transparency and the image does; choose png or webp")

    def sheets(self, drawn: Sequence["Generated"]) -> list[Sheet]:
        """What goes into each file. A file of one picture tells how to draw that one alone."""
        return [
            Sheet(self._path(number, request.image_index, len(drawn)), request, content)
            for number, generated in enumerate(drawn)
            for request, content in self._parts(generated)
        ]

    def write(self, sheet: Sheet, model: str) -> None:
        """Write a file, whole or not at all."""
        from unmask.encoding import encode, parameters

        text = parameters(sheet.request, model)
        if isinstance(sheet.content, Clip):
            clip = replace(sheet.content, comment=text)
            if self.clip_format is None:
                clip.save(sheet.path, force=True)
                return
            data = clip.encode(self.clip_format)
        else:
            data = encode(sheet.content, self.image_format, QUALITY, text)
        if self.path != STANDARD:
            self._write(data, sheet.path)
            return
        try:
            # Not through sys.stdout, which would try again at the end of the process.
            with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as file:
                file.write(data)
        except OSError as error:
            self._refuse(error.strerror)

    def _parts(self, generated: "Generated") -> list[tuple["DrawRequest", "Drawn"]]:
        request, drawn = generated.request, generated.drawn
        if self.separate:
            pairs = zip(request.image_indices, drawn, strict=True)
            return [(request.alone(index), self._content([image])) for index, image in pairs]
        return [(request, self._content(drawn))]

    def _content(self, drawn: "Sequence[Drawn]") -> "Drawn":
        if self.clips:
            return drawn[0]
        return grid([image.sheet() if isinstance(image, Clip) else image for image in drawn])

    def _path(self, number: int, image_index: int, prompts: int) -> Path:
        """The file of a prompt, or of one image of it: out-PROMPT-IMAGE.png."""
        numbers = [number] * (prompts > 1) + [image_index] * self.separate
        return self.path.with_stem("-".join([self.path.stem, *map(str, numbers)]))

    def _write(self, data: bytes, path: Path | None) -> None:
        """Write into the folder under another name, then rename; None only tries."""
        target = self.path if path is None else path.resolve()  # a link stays one
        if path is None and self._is_folder and target.is_dir():
            target = target / FRAME_FILE.format(0)
        draft = None
        try:
            handle, draft = tempfile.mkstemp(".part", f".{target.stem}-", target.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            if path is not None:
                os.chmod(draft, 0o666 & ~_umask())  # as any new file, where mkstemp's is private
                os.replace(draft, target)
                draft = None
        except OSError as error:
            self._refuse(error.strerror)
        finally:
            if draft is not None:
                os.unlink(draft)

    def _refuse(self, reason: str | None) -> NoReturn:
        raise RequestError(f"output {self.path}: {reason}", "output")


def _umask() -> int:
    """The bits that new files of this process lack; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def grid(images: Sequence[Image.Image]) -> Image.Image:
    """One image that shows all of them, row by row, with no cell left empty and as near to a square
    as that allows: primes make one row. One alone is itself."""
    count = len(images)
    rows = max(rows for rows in range(1, math.isqrt(count) + 1) if count % rows == 0)
    columns = count // rows
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
