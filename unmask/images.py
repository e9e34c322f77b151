"""Pictures from outside: untrusted bytes to pixels, and every mode of Pillow's to two of them."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from unmask.containers import ORIENTATION, pixels_of
from unmask.errors import RequestError

FORMATS = ("PNG", "JPEG", "WEBP")
# The modes with 8 bits a channel; of the others pixels could not come back as they were.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of odd files, and warnings can only be silenced for the whole process: so one file
# is read at a time, which also bounds the memory that decoding takes.
_reading = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """The largest picture that is read: bytes of the file, pixels of the picture."""

    max_bytes: int
    max_pixels: int


DATA_LIMITS = ImageLimits(max_bytes=256 << 20, max_pixels=128 << 20)  # of data to train with


def read_image(file: bytes | Path, param: str, limits: ImageLimits) -> Image.Image:
    """The upright picture, RGB or RGBA, that a png, jpeg or webp file, or its bytes, hold.

    Metadata is never decoded, so that it cannot cost the picture, and does not come back. Of a
    jpeg that holds several pictures the first is read. RequestError, naming ``param``, for
    whatever else there is: nothing of the decoder's own words is told, since they may hold
    addresses. Pixels are counted before any is decoded.
    """
    data = file if isinstance(file, bytes) else read_file(file, param, limits.max_bytes)
    check_length(data, param, limits.max_bytes)
    with _reading, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = pixels_of(data)
        if pixels is None:
            raise _unknown(param)
        if pixels.frames != 1:
            raise RequestError(
                f"{param}: it has {pixels.frames} frames; give a still picture", param
            )
        if pixels.bits in (12, 16):
            raise RequestError(
                f"{param}: it has {pixels.bits} bits a channel; give one with 8", param
            )
        try:
            with Image.open(BytesIO(pixels.data), formats=FORMATS) as image:
                check_size(image, param, limits.max_pixels)
                return _converted(image, param, lambda: pixels.orientation)
        except RequestError:
            raise
        except Image.DecompressionBombError:  # so many that Pillow itself stops at the header
            raise _too_large(
                param, f"more than {Image.MAX_IMAGE_PIXELS}", limits.max_pixels
            ) from None
        except UnidentifiedImageError:
            raise _unknown(param) from None
        except Exception:  # decoders raise anything: OSError, SyntaxError, ValueError, struct.error
            raise _damaged(param) from None


def upright(image: Image.Image, param: str) -> Image.Image:
    """A picture that Pillow opened or made, turned as its EXIF says: RGBA if it has an alpha
    channel or a transparent colour, else RGB. Metadata does not come back.

    RequestError, naming ``param``, for modes with more than 8 bits a channel, and for pixels that
    cannot be decoded.
    """
    # Pillow reads a png of 16-bit colours as one of 8 bits, and says so nowhere else.
    if any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):
        raise RequestError(f"{param}: it has 16 bits a channel; give one with 8", param)
    try:
        return _converted(image, param, lambda: image.getexif().get(ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError):  # a file that was opened, and is decoded only now
        raise _damaged(param) from None


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB; what is transparent is white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")


def check_size(image: Image.Image, param: str, max_pixels: int) -> None:
    """RequestError, naming ``param``, if the picture has more pixels; none is decoded."""
    if image.width * image.height > max_pixels:
        raise _too_large(param, f"{image.width}x{image.height}", max_pixels)


def _converted(
    image: Image.Image, param: str, read_orientation: Callable[[], object]
) -> Image.Image:
    if image.mode not in MODES:
        raise RequestError(
            f"{param}: pixels of mode {image.mode} have more than 8 bits a channel or cannot be "
            f"kept; choose one of: {', '.join(MODES)}",
            param,
        )
    image.load()
    try:
        orientation = read_orientation()
    except Exception:  # Pillow's readers of metadata raise anything
        orientation = 1
    converted = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if isinstance(orientation, int) and orientation in TURNS:
        converted = converted.transpose(TURNS[orientation])
    converted.info = {}  # who reads it again must not turn it again
    return converted


def read_file(path: Path, param: str, max_bytes: int) -> bytes:
    """What a file holds; RequestError, naming ``param``, if it is too long or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
            if len(data) > max_bytes:
                raise _too_long(param, path.stat().st_size, max_bytes)
            return data
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}", param) from None


def check_length(data: bytes, param: str, max_bytes: int) -> None:
    """RequestError, naming ``param``, for what an empty file or too long a one holds."""
    if not data:
        raise RequestError(f"{param}: the file is empty", param)
    if len(data) > max_bytes:
        raise _too_long(param, len(data), max_bytes)


def _unknown(param: str) -> RequestError:
    return RequestError(f"{param}: not an image that is read; give png, jpeg or webp", param)


def _damaged(param: str) -> RequestError:
    return RequestError(f"{param}: the file is damaged or cut short", param)


def _too_long(param: str, found: int, max_bytes: int) -> RequestError:
    return RequestError(f"{param}: the file has {found} bytes; the bound is {max_bytes}", param)


def _too_large(param: str, found: str, max_pixels: int) -> RequestError:
    return RequestError(f"{param}: it has {found} pixels; the bound is {max_pixels}", param)
