"""How small clips become films and come back: every pixel is drawn as a square of several.

Films keep one value of colour for 2x2 pixels. On pictures of 64 pixels that costs more than all the
rest of coding; enlarged, nothing.
"""

import re

LEAST_SIDE = 256  # pixels of a film's shorter side: smaller ones blur in players and in coding
LARGE_SIDE = 1024  # from here on a clip is not enlarged for its colours' sake
NOTE = re.compile(r"every pixel is drawn as ([1-9]\d?)x\1")


def enlargement(width: int, height: int) -> int:
    """How many pixels of a film, each way, stand for one of a clip of this size; the film's sides
    are even, as films' sides must be.
    """
    factor = 2 if max(width, height) < LARGE_SIDE else 1
    while width * factor % 2 or height * factor % 2 or min(width, height) * factor < LEAST_SIDE:
        factor += 1
    return factor


def note(factor: int) -> str:
    """What a film says of its pixels, in its description."""
    return f"every pixel is drawn as {factor}x{factor}"


def shrinking(description: str, width: int, height: int) -> int:
    """The enlargement that a film of this size tells of; 1 if it tells of none that can be."""
    found = NOTE.fullmatch(description)
    factor = int(found[1]) if found else 1
    return factor if width % factor == height % factor == 0 else 1
