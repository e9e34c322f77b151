"""Paint: the colours of a picture around and under what is drawn into it.

Colours are (height, width, 3) in [0, 1]. They are reckoned in float64 wherever they are summed:
only so does it not show in the bytes which windows a picture was drawn in.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unmask.editing.edits import OPAQUE, Bytes, Edit, Mask

Floats = NDArray[np.float64]
CHUNK = 1 << 15  # pixels that are worked on at a time, so that they stay in a processor's cache


class Feather(NamedTuple):
    """The masked pixels that mix what is drawn with what was there."""

    places: NDArray[np.intp]  # (pixels,) in the picture, row by row
    squares: NDArray[np.int32]  # (pixels,) of their depths inside the mask
    seen: Floats  # (pixels, 3): what was there


def seen_colours(edit: Edit) -> Floats:
    """The colours of the picture; where it is all transparent, those around."""
    colours: Floats = edit.pixels[..., :3] / 255
    if edit.pixels.shape[2] == 4:
        fill(colours, edit.pixels[..., 3] > 0)
    return colours


def hide(edit: Edit, colours: Floats) -> None:
    """Put the colours around into the place of those ``seen`` under the mask."""
    if edit.pixels.shape[2] == 4 and ((edit.pixels[..., 3] == 0) == edit.mask).all():
        return  # they are there already, as nothing else was transparent
    fill(colours, ~edit.mask)


def fill(colours: Floats, known: Mask) -> None:
    """Make up the unknown colours of known ones around; mid grey if there are none.

    Each unknown pixel mixes the nearest known ones on its left, right, above and below, the nearer
    the more; what has none in its row and column comes from those filled before.
    """
    if not known.any():
        colours[:] = 0.5
    while known.any() and not known.all():  # twice at most: then a row and a column are known
        unknown = np.nonzero(~known)
        left, above, right, below = _nearest(known, unknown)
        reached = np.zeros(len(left), bool)
        for start in range(0, len(left), CHUNK):
            part = slice(start, start + CHUNK)
            row, column = unknown[0][part], unknown[1][part]
            sums, weights = np.zeros((len(row), 3)), np.zeros((len(row), 1))
            for place, beside, (rows, columns) in (
                (column, left[part], (row, left[part])),
                (row, above[part], (above[part], column)),
                (column, right[part], (row, right[part])),
                (row, below[part], (below[part], column)),
            ):
                distance = np.abs(place - beside).astype(float)
                weight = np.where(beside < 0, 0, 1 / distance**2)[:, None]
                sums += colours[rows, columns] * weight
                weights += weight
            colours[row, column] = sums / np.where(weights > 0, weights, 1)
            reached[part] = weights[:, 0] > 0
        known = known.copy()
        known[unknown] = reached


def feather_of(edit: Edit, seen: Floats) -> Feather | None:
    """None if every masked pixel is drawn in full."""
    if edit.feather == 0:
        return None
    squares = squared_depth(edit.mask, edit.feather)
    places = np.flatnonzero(edit.mask & (squares < (edit.feather + 1) ** 2))
    if not len(places):
        return None
    return Feather(places, squares.ravel()[places], seen.reshape(-1, 3)[places])


def squared_depth(mask: Mask, feather: int) -> NDArray[np.int32]:
    """The square of how many pixels inside the mask each lies, up to ``feather`` + 1; outside 0.

    The border of the picture is no edge of the mask.
    """
    deepest, (height, width) = feather + 1, mask.shape
    places = np.arange(width, dtype=np.int32)
    before = np.maximum.accumulate(np.where(mask, np.int32(-deepest), places), axis=1)
    behind = np.where(mask, np.int32(width + deepest), places)
    behind = np.minimum.accumulate(behind[:, ::-1], axis=1)[:, ::-1]
    squares = np.minimum(np.minimum(places - before, behind - places), np.int32(deepest)) ** 2
    strip = max(1, 2 * CHUNK // height)
    for start in range(0, width, strip):
        rows = squares[:, start : start + strip].copy()
        nearest = rows.copy()
        lowest, highest = int(rows.min()), int(rows.max())
        for shift in range(1, min(deepest, height)):
            if lowest + shift**2 >= highest:
                break
            away = rows + np.int32(shift**2)
            np.minimum(nearest[shift:], away[:-shift], out=nearest[shift:])
            np.minimum(nearest[:-shift], away[shift:], out=nearest[:-shift])
        squares[:, start : start + strip] = nearest
    return squares


def say_of_window(height: int, width: int) -> Floats:
    """(height, width, 1): a window's weight where several are averaged. It falls towards the rim,
    where the decoder sees nothing of what lies beyond.
    """
    say: Floats = np.multiply.outer(_tent(height), _tent(width))[..., None].astype(float)
    return say


def compose(
    edit: Edit, feather: Feather | None, sums: Floats, says: NDArray[np.int32]
) -> Image.Image:
    """What is drawn inside the mask, what was sent outside of it; RGB or, if the edit keeps alpha,
    RGBA. ``sums`` of drawn colours and ``says`` (height, width, 1) of all windows, or larger.
    """
    height, width = edit.mask.shape
    pixels = edit.pixels[..., :3].copy()
    band = max(1, CHUNK // width)
    for top in range(0, height, band):
        rows = slice(top, min(top + band, height))
        mask = edit.mask[rows]
        drawn = sums[rows, :width][mask] / says[rows, :width][mask]
        pixels[rows][mask] = to_bytes(drawn)
    if feather is not None:
        for start in range(0, len(feather.places), CHUNK):
            part = slice(start, start + CHUNK)
            place = np.divmod(feather.places[part], width)
            weight = (np.sqrt(feather.squares[part].astype(float)) / (edit.feather + 1))[:, None]
            drawn = sums[place] / says[place]
            pixels[place] = to_bytes(feather.seen[part] * (1 - weight) + drawn * weight)
    if edit.keeps_alpha:
        alpha = np.where(edit.mask, np.uint8(OPAQUE), edit.pixels[..., 3])
        pixels = np.dstack([pixels, alpha])
    return Image.fromarray(pixels)


def to_bytes(colours: Floats) -> Bytes:
    """In fp32, as text to image rounds: the same tokens are to be the same bytes."""
    rounded: Bytes = (colours.astype(np.float32) * 255).round().astype(np.uint8)
    return rounded


def _nearest(known: Mask, unknown: tuple[NDArray[np.intp], ...]) -> list[NDArray[np.int32]]:
    """For each unknown pixel the column of the nearest known one on its left, the row of that
    above it, the column on its right and the row below; -1 if there is none.
    """
    found = []
    for backwards in (False, True):
        for axis in (1, 0):
            length = known.shape[axis]
            places = np.arange(length, dtype=np.int32).reshape((1, -1) if axis else (-1, 1))
            walked = np.flip(known, axis) if backwards else known
            passed = np.maximum.accumulate(np.where(walked, places, np.int32(-1)), axis=axis)
            nearest = (np.flip(passed, axis) if backwards else passed)[unknown]
            if backwards:
                nearest = np.where(nearest < 0, nearest, np.int32(length - 1) - nearest)
            found.append(nearest)
    return found


def _tent(length: int) -> NDArray[np.int_]:
    """1, 2, 3 ... 3, 2, 1."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
