"""The formats that a clip is written in, by name."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unmask.clips.animation import encode_apng, encode_gif, encode_webp
from unmask.errors import MissingExtraError, look_up


class ClipFormat(NamedTuple):
    """How a clip is written: ``encode(frames, rate, comment)`` gives the bytes of a file."""

    endings: tuple[str, ...]
    media_type: str
    encode: Callable[[NDArray[np.uint8], float, str], bytes]


def _encode_film(name: str, frames: NDArray[np.uint8], rate: float, comment: str) -> bytes:
    try:
        from unmask.clips.film import encode_film
    except ImportError:
        raise MissingExtraError(
            f"format {name}: it needs PyAV, so: pip install 'unmask[video]'; "
            "webp, gif, apng and folders of frames go without it",
            "format",
        ) from None
    return encode_film(name, frames, rate, comment)


FORMATS: dict[str, ClipFormat] = {
    "mp4": ClipFormat((".mp4",), "video/mp4", partial(_encode_film, "mp4")),
    "webm": ClipFormat((".webm",), "video/webm", partial(_encode_film, "webm")),
    "webp": ClipFormat((".webp",), "image/webp", encode_webp),
    "gif": ClipFormat((".gif",), "image/gif", encode_gif),
    "apng": ClipFormat((".apng", ".png"), "image/apng", encode_apng),
}
PREFERRED = ("mp4", "webm", "webp")
ENDINGS = {ending: name for name, form in FORMATS.items() for ending in form.endings}


@cache
def check_format(name: str) -> None:
    """RequestError, and of its kind MissingExtraError, if no clip can be written in a format."""
    look_up("format", FORMATS, name).encode(np.zeros((1, 16, 16, 3), np.uint8), 8.0, "")


@cache
def default_format() -> str:
    """The first of mp4, webm and webp that can be written here."""
    for name in PREFERRED:
        with suppress(MissingExtraError):
            check_format(name)
            return name
    raise AssertionError("webp needs nothing that might be missing")
