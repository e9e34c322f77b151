"""What the commands read and write: pictures as files."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from unmask.errors import RequestError, choices

if TYPE_CHECKING:
    from unmask.encoding import ImageFormat
    from unmask.pipeline import Generated

FORMATS: "dict[str, ImageFormat]" = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}
MAX_FILE_BYTES = 64 << 20  # of pictures to edit
QUALITY = 95  # of webp and jpeg files; more only makes them larger


def read_picture(path: Path, param: str = "image") -> Image.Image:
    """A picture file; RequestError, naming ``param``, if it cannot be read or is no picture."""
    from unmask.editing import MAX_PIXELS
    from unmask.images import ImageLimits, read_image

    return read_image(path, param, ImageLimits(MAX_FILE_BYTES, MAX_PIXELS))


def read_mask(path: Path | None) -> Image.Image | None:
    """A mask file, if there is one."""
    return None if path is None else read_picture(path, "mask")


def check_output(path: Path) -> "ImageFormat":
    """The format that the path asks for, found before any time is spent on drawing."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"output {path}: {choices(path.suffix, FORMATS)}", "output")
    if not path.parent.is_dir():
        raise RequestError(f"output {path}: there is no folder {path.parent}", "output")
    return FORMATS[path.suffix.lower()]


def write_pictures(
    generated: "Generated", model: str, path: Path, image_format: "ImageFormat", separate: bool
) -> list[Path]:
    """Write all pictures into one grid, or into a file each; the files."""
    from unmask.encoding import encode, parameters

    text = parameters(generated.request, model)
    files = {path: grid(generated.images)}
    if separate:
        files = {
            path.with_stem(f"{path.stem}-{index}"): image
            for index, image in enumerate(generated.images)
        }
    try:
        for name, image in files.items():
            name.write_bytes(encode(image, image_format, QUALITY, text))
    except OSError as error:
        raise RequestError(f"output {path}: {error.strerror}", "output") from None
    return list(files)


def grid(images: list[Image.Image]) -> Image.Image:
    """One image that shows all of them, row by row, in a near square; one alone is itself."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (columns * width, rows * height), "white")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
