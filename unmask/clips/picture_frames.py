"""The frames of gif, webp, png and jpeg files, by Pillow."""

import warnings
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from unmask.clips.limits import ClipLimits
from unmask.clips.shown import NAMELESS, Shown
from unmask.containers import pixels_of
from unmask.errors import RequestError
from unmask.images import TURNS, ImageLimits, check_size, on_white, read_image

UNTIMED = 0.1  # seconds that a frame without a duration is shown, as browsers do
STILL = 1.0  # seconds that a picture that does not move is shown


def picture_frames(data: bytes, kind: str, limits: ClipLimits) -> Iterator[Shown]:
    """The frames, upright and without transparency: what is transparent is white."""
    warnings.simplefilter("ignore")  # Pillow warns of odd files
    pixels = pixels_of(data)
    orientation = pixels.orientation if pixels is not None else 1
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            check_size(image, NAMELESS, limits.max_pixels)
            # A jpeg may hold further pictures, such as a smaller one, but they do not move.
            moves = kind != "jpeg" and (getattr(image, "is_animated", False) or _duration(image))
            if not moves and kind != "gif":
                bounds = ImageLimits(limits.max_bytes, limits.max_pixels)
                yield Shown(0.0, STILL, lambda: on_white(read_image(data, NAMELESS, bounds)))
                return
            start, number = 0.0, int(bool(image.info.get("default_image")))
            while True:
                try:
                    image.seek(number)
                except EOFError:
                    return
                check_size(image, NAMELESS, limits.max_pixels)
                if any(";16" in str(tile.args) for tile in image.tile):
                    raise RequestError("it has 16 bits a channel; give one with 8")
                stop = start + (_duration(image) or (UNTIMED if moves else STILL))
                yield Shown(start, stop, lambda: _turned(on_white(image), orientation))
                start, number = stop, number + 1
    except Image.DecompressionBombError:  # from the start, or grown by a frame beyond its edge
        raise RequestError(
            f"a frame has more than {Image.MAX_IMAGE_PIXELS} pixels; the bound is "
            f"{limits.max_pixels}"
        ) from None


def _duration(image: Image.Image) -> float:
    """How many seconds the frame where a file is at is shown; 0 if it does not tell."""
    image.load()  # of a webp it is not known before
    return float(image.info.get("duration", 0)) / 1000


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image
