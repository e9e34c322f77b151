"""Pictures from outside: untrusted bytes to pixels, and every mode of Pillow's to two of them."""

import threading
import warnings
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from unmask.errors import RequestError

FORMATS = ("PNG", "JPEG", "WEBP")
# The modes with 8 bits a channel; of the others pixels could not come back as they were.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB")

# Pillow warns of odd files, and warnings can only be silenced for the whole process: so one file
# is read at a time, which also bounds the memory that decoding takes.
_reading = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """The largest picture that is read: bytes of the file, pixels of the picture."""

    max_bytes: int
    max_pixels: int


def read_image(data: bytes, param: str, limits: ImageLimits) -> Image.Image:
    """The upright picture, RGB or RGBA, that the bytes of a png, jpeg or webp file hold.

    RequestError, naming ``param``, for whatever else they hold: nothing of the decoder's own words
    is told, since they may hold addresses. Pixels are counted before any is decoded.
    """
    if not data:
        raise RequestError(f"{param}: the file is empty", param)
    if len(data) > limits.max_bytes:
        raise RequestError(
            f"{param}: the file has {len(data)} bytes; the bound is {limits.max_bytes}", param
        )
    with _reading, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check_header(image, param, limits)
                return upright(image, param)
        except RequestError:
            raise
        except Image.DecompressionBombError:  # so many that Pillow itself stops at the header
            raise _too_large(param, f"more than {Image.MAX_IMAGE_PIXELS}", limits) from None
        except UnidentifiedImageError:
            raise RequestError(
                f"{param}: not an image that is read; send png, jpeg or webp", param
            ) from None
        except Exception:  # decoders raise anything: OSError, SyntaxError, ValueError, struct.error
            raise RequestError(f"{param}: the file is damaged or cut short", param) from None


def upright(image: Image.Image, param: str) -> Image.Image:
    """The picture turned as its EXIF says, RGBA if it has an alpha channel or colour, else RGB.

    RequestError, naming ``param``, for modes with more than 8 bits a channel.
    """
    if image.mode not in MODES:
        raise RequestError(
            f"{param}: pixels of mode {image.mode} have more than 8 bits a channel or cannot be "
            f"kept; choose one of: {', '.join(MODES)}",
            param,
        )
    turned = ImageOps.exif_transpose(image)
    return turned.convert("RGBA" if turned.has_transparency_data else "RGB")


def _check_header(image: ImageFile.ImageFile, param: str, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise _too_large(param, f"{width}x{height}", limits)
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise RequestError(f"{param}: it has {frames} frames; send a still picture", param)
    # Pillow reads a png of 16-bit colours as one of 8 bits, and says so nowhere else.
    if any(";16" in str(tile.args) for tile in image.tile):
        raise RequestError(f"{param}: it has 16 bits a channel; send one with 8", param)


def _too_large(param: str, found: str, limits: ImageLimits) -> RequestError:
    return RequestError(f"{param}: it has {found} pixels; the bound is {limits.max_pixels}", param)
