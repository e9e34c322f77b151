"""Paint: the colours of a picture around and under what is drawn into it.

Colours are (..., 3) in [0, 1]. They are reckoned in float64 wherever they are summed: only so does
it not show in the bytes which windows a picture was drawn in. A photo has far more pixels than are
drawn, so nothing but its bytes is kept of those that stay: colours are held for pixels that are
listed by their places, which count a picture's pixels row by row.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unmask.editing.edits import OPAQUE, Bytes, Edit, Mask

Area = tuple[slice, slice]  # of pixels, or of tokens
Floats = NDArray[np.float64]
Places = NDArray[np.signedinteger]
CHUNK = 1 << 15  # pixels that are worked on at a time, so that they stay in a processor's cache


def pixels_of(cells: Area, patch: int) -> Area:
    """Where tokens lie, in pixels."""
    rows, columns = cells
    return (
        slice(rows.start * patch, rows.stop * patch),
        slice(columns.start * patch, columns.stop * patch),
    )


class Feather(NamedTuple):
    """The masked pixels that mix what is drawn with what was there."""

    places: Places  # (pixels,) in the picture
    squares: NDArray[np.int32]  # (pixels,) of their depths inside the mask
    seen: Floats  # (pixels, 3): what was there


@dataclass(frozen=True, eq=False)
class Paint:
    """A picture's pixels (height, width, 3 or 4), some of them painted over."""

    pixels: Bytes
    places: Places  # of the painted pixels, ascending
    colours: NDArray[np.floating]  # (places, 3)

    def at(self, places: Places) -> Floats:
        """The colours (places, 3) at any places of the picture."""
        row, column = np.divmod(places, self.pixels.shape[1])
        colours: Floats = self.pixels[row, column, :3] / 255
        if len(self.places):
            number = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
            painted = self.places[number] == places
            colours[painted] = self.colours[number[painted]]
        return colours

    def window(self, area: Area) -> NDArray[np.float32]:
        """The colours (height, width, 3) of an area; beyond the picture its rim is repeated.

        In fp32, as tokenizers read them.
        """
        height, width = self.pixels.shape[:2]
        rows = np.minimum(np.arange(area[0].start, area[0].stop, dtype=np.int32), height - 1)
        columns = np.minimum(np.arange(area[1].start, area[1].stop, dtype=np.int32), width - 1)
        places = np.int32(width) * rows[:, None] + columns
        colours = self.at(places.ravel()).astype(np.float32)
        return colours.reshape(*places.shape, 3)

    def over(self, places: Places, colours: Floats) -> "Paint":
        """This picture with these places, ascending, painted over too."""
        rest = ~np.isin(self.places, places)
        joined = np.concatenate([self.places[rest], places])
        order = joined.argsort(kind="stable")
        both = np.concatenate([self.colours[rest], colours])
        return Paint(self.pixels, joined[order], both[order])

    def narrowed(self) -> "Paint":
        """With fp32 colours, which are half as large, and all that windows need."""
        return Paint(self.pixels, self.places, self.colours.astype(np.float32))


class MaskedPixels:
    """The masked pixels of a padded picture, numbered row by row: what is drawn is kept of these.

    ``mask`` is (height, width), ``places`` are theirs in it.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.places = np.flatnonzero(mask).astype(np.int32)

    def within(self, area: Area) -> tuple[Mask, NDArray[np.intp]]:
        """Which pixels of an area are masked (height, width), and the numbers of these."""
        inside, width = self.mask[area], self.mask.shape[1]
        first = np.arange(area[0].start, area[0].stop, dtype=np.int32) * np.int32(width)
        numbers = np.searchsorted(self.places, first + np.int32(area[1].start))
        counts = inside.sum(1)
        before = counts.cumsum() - counts
        return inside, np.repeat(numbers - before, counts) + np.arange(counts.sum())


def seen_colours(edit: Edit) -> Paint:
    """The colours of the picture; where it is all transparent, those around."""
    plain = Paint(edit.pixels, np.empty(0, np.int32), np.empty((0, 3)))
    if edit.pixels.shape[2] == 3:
        return plain
    return fill(plain, _places(edit.pixels[..., 3] == 0))


def hide(edit: Edit, seen: Paint) -> Paint:
    """The colours around in the place of those ``seen`` under the mask."""
    if edit.pixels.shape[2] == 4 and ((edit.pixels[..., 3] == 0) == edit.mask).all():
        return seen  # they are there already, as nothing else was transparent
    return fill(seen, _places(edit.mask))


def fill(paint: Paint, unknown: Places) -> Paint:
    """Make up the colours at the unknown places, ascending, of known ones around; mid grey if there
    are none.

    Each unknown pixel mixes the nearest known ones on its left, right, above and below, the nearer
    the more; what has none in its row and column comes from those filled before.
    """
    height, width = paint.pixels.shape[:2]
    if len(unknown) == height * width:
        return paint.over(unknown, np.full((len(unknown), 3), 0.5))
    while len(unknown):  # twice at most: then a row and a column are known
        row, column = np.divmod(unknown, np.int32(width))
        left, above, right, below = _nearest(row, column, height, width)
        colours, reached = np.zeros((len(unknown), 3)), np.zeros(len(unknown), bool)
        for start in range(0, len(unknown), CHUNK):
            part = slice(start, start + CHUNK)
            weights = np.zeros((len(row[part]), 1))
            for place, beside, found in (
                (column, left, row[part] * width + left[part]),
                (row, above, above[part] * width + column[part]),
                (column, right, row[part] * width + right[part]),
                (row, below, below[part] * width + column[part]),
            ):
                missing = beside[part] < 0
                distance = np.abs(place[part] - beside[part]).astype(float)
                weight = np.where(missing, 0, 1 / distance**2)[:, None]
                colours[part] += paint.at(np.where(missing, 0, found)) * weight
                weights += weight
            colours[part] /= np.where(weights > 0, weights, 1)
            reached[part] = weights[:, 0] > 0
        paint = paint.over(unknown[reached], colours[reached])
        unknown = unknown[~reached]
    return paint


def feather_of(edit: Edit, seen: Paint) -> Feather | None:
    """None if every masked pixel is drawn in full."""
    if edit.feather == 0:
        return None
    # A pixel around the masked ones is enough: all that lies beyond is further away.
    rows, columns = (
        slice(max(masked[0] - 1, 0), masked[-1] + 2)
        for masked in (np.flatnonzero(edit.mask.any(axis)) for axis in (1, 0))
    )
    mask = edit.mask[rows, columns]
    squares = squared_depth(mask, edit.feather)
    row, column = np.nonzero(mask & (squares < (edit.feather + 1) ** 2))
    if not len(row):
        return None
    places = (row + rows.start) * edit.mask.shape[1] + column + columns.start
    return Feather(places, squares[row, column], seen.at(places))


def squared_depth(mask: Mask, feather: int) -> NDArray[np.int32]:
    """The square of how many pixels inside the mask each lies, up to ``feather`` + 1; outside 0.

    The border of the picture is no edge of the mask.
    """
    deepest, (height, width) = feather + 1, mask.shape
    places = np.arange(width, dtype=np.int32)
    squares = np.empty(mask.shape, np.int32)
    band = max(1, CHUNK // width)
    for top in range(0, height, band):
        inside = mask[top : top + band]
        before = np.maximum.accumulate(np.where(inside, np.int32(-deepest), places), axis=1)
        behind = np.where(inside, np.int32(width + deepest), places)
        behind = np.minimum.accumulate(behind[:, ::-1], axis=1)[:, ::-1]
        across = np.minimum(places - before, behind - places)
        squares[top : top + band] = np.minimum(across, np.int32(deepest)) ** 2
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
    edit: Edit,
    feather: Feather | None,
    masked: MaskedPixels,
    sums: Floats,
    says: NDArray[np.int32],
) -> Image.Image:
    """What is drawn inside the mask, what was sent outside of it; RGB or, if the edit keeps alpha,
    RGBA. ``sums`` (masked, 3) of drawn colours and ``says`` (masked, 1) of all windows.
    """
    height, width = edit.mask.shape
    padded_width = masked.mask.shape[1]
    pixels = edit.pixels[..., :3].copy()
    for start in range(0, len(masked.places), CHUNK):
        part = slice(start, start + CHUNK)
        row, column = np.divmod(masked.places[part], padded_width)
        inside = (row < height) & (column < width)
        drawn = to_bytes(sums[part] / says[part])
        pixels[row[inside], column[inside]] = drawn[inside]
    if feather is not None:
        for start in range(0, len(feather.places), CHUNK):
            part = slice(start, start + CHUNK)
            row, column = np.divmod(feather.places[part], width)
            number = np.searchsorted(masked.places, row * padded_width + column)
            weight = (np.sqrt(feather.squares[part].astype(float)) / (edit.feather + 1))[:, None]
            mixed = feather.seen[part] * (1 - weight) + sums[number] / says[number] * weight
            pixels[row, column] = to_bytes(mixed)
    if edit.keeps_alpha:
        alpha = np.where(edit.mask, np.uint8(OPAQUE), edit.pixels[..., 3])
        pixels = np.dstack([pixels, alpha])
    return Image.fromarray(pixels)


def to_bytes(colours: NDArray[np.floating]) -> Bytes:
    """In fp32, as text to image rounds: the same tokens are to be the same bytes."""
    rounded: Bytes = (colours.astype(np.float32) * 255).round().astype(np.uint8)
    return rounded


def _places(mask: Mask) -> Places:
    return np.flatnonzero(mask).astype(np.int32)


def _nearest(row: Places, column: Places, height: int, width: int) -> tuple[Places, ...]:
    """For each unknown pixel, row by row, the column of the nearest known one on its left, the row
    of that above it, the column on its right and the row below; -1 if there is none.
    """
    left, right = _beside_runs(row, column, width)
    down = np.argsort(column.astype(np.uint16) if width <= 1 << 16 else column, kind="stable")
    above, below = np.empty_like(row), np.empty_like(row)
    above[down], below[down] = _beside_runs(column[down], row[down], height)
    return left, above, right, below


def _beside_runs(line: Places, place: Places, length: int) -> tuple[Places, Places]:
    """For pixels that ascend by line and by place in it, the places before and behind the run of
    pixels in which each stands; -1 for those outside of the line."""
    breaks = (line[1:] != line[:-1]) | (place[1:] != place[:-1] + 1)
    first = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    lengths = np.diff(first, append=len(line))
    before, behind = place[first] - 1, place[first + lengths - 1] + 1
    behind[behind == length] = -1
    return np.repeat(before, lengths), np.repeat(behind, lengths)


def _tent(length: int) -> NDArray[np.int_]:
    """1, 2, 3 ... 3, 2, 1."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
