"""What readers of files give, frame by frame."""

from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

NAMELESS = "clip"  # the file, in errors of rooms that want its name
DAMAGED = "the file is damaged or cut short"


class Shown(NamedTuple):
    """A frame of a file: when it is shown and until when, in seconds, and how to get its pixels,
    which costs nothing until it is done, and has to be done before the next frame is asked for.
    """

    start: float
    stop: float
    draw: Callable[[], Image.Image]
