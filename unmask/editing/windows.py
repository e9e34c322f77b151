"""Windows: where a picture that is larger than the model's grid is drawn, and in which order.

All of it is counted in tokens. A plan depends on the mask and the grid alone, so that the images of
a request share one. So do the frames of a clip, whose mask is what may change in any of them.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from unmask.editing.edits import Indices, Mask
from unmask.errors import RequestError

Corner = tuple[int, int]  # row and column of a window's first token
Grid = tuple[int, ...]  # as a model tells it; an edit needs (rows, columns)


class Masked(Protocol):
    """What is drawn over: a picture or a clip."""

    @property
    def mask(self) -> Mask:
        """Where anything may change, (height, width)."""
        ...


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of an edit, numbered in the order to draw them in."""

    grid: tuple[int, int]
    masked: Mask  # (rows, columns) of the padded picture
    corners: tuple[Corner, ...]
    first: Indices  # (rows, columns): the window that draws a masked token; -1 if it is not masked
    followers: tuple[tuple[int, ...], ...]  # by window: the later ones that wait for it directly
    waits: tuple[int, ...]  # by window: for how many earlier ones it waits directly

    def cells(self, window: int) -> tuple[slice, slice]:
        """Where a window lies, in tokens."""
        return area_of(self.corners[window], self.grid)


# An edit is planned when its cost is reckoned, and again by whoever draws it.
_plans: WeakKeyDictionary[Masked, dict[tuple[int, Grid], WindowPlan]] = WeakKeyDictionary()


def window_plan(edit: Masked, patch: int, grid: Grid) -> WindowPlan:
    """The plan of an edit for tokens of ``patch`` x ``patch`` pixels, kept as long as the edit.

    RequestError for a grid of other than two axes.
    """
    plans = _plans.setdefault(edit, {})
    if (patch, grid) not in plans:
        if len(grid) != 2:
            raise RequestError(
                f"model: its grid {grid} has {len(grid)} axes, and an edit needs one of two, rows "
                "and columns; choose a model of pictures",
                "model",
            )
        plans[patch, grid] = _make_plan(masked_cells(edit, patch, grid), (grid[0], grid[1]))
    return plans[patch, grid]


def window_count(edit: Masked, patch: int, grid: Grid) -> int:
    """How many windows an edit has, those with nothing to draw included: what it costs. Those of
    a clip are at each time."""
    return len(window_plan(edit, patch, grid).corners)


def masked_cells(edit: Masked, patch: int, grid: Grid) -> Mask:
    """Which tokens of the picture, padded to at least a window of the grid, hold masked pixels."""
    return cells_of(pad_to_tokens(edit.mask, patch, grid), patch)


def cells_of(masks: Mask, patch: int) -> Mask:
    """Which tokens (..., rows, columns) hold masked pixels (..., height, width)."""
    *before, height, width = masks.shape
    blocks = masks.reshape(*before, height // patch, patch, width // patch, patch)
    cells: Mask = np.logical_or.reduce(blocks, axis=(-3, -1))
    return cells


def pad_to_tokens(values: NDArray[Any], patch: int, grid: Grid) -> NDArray[Any]:
    """(height, width, ...) with its rim repeated, up to whole tokens and at least one window."""
    sides = [
        (0, max(-(-length // patch), cells) * patch - length)
        for length, cells in zip(values.shape[:2], grid, strict=True)
    ]
    return np.pad(values, sides + [(0, 0)] * (values.ndim - 2), mode="edge")


def plan_windows(masked: Mask, grid: tuple[int, int]) -> list[Corner]:
    """Corners of windows that hold every masked token, in the order to draw them in.

    A blot of masked tokens that fits into a window is drawn in one, in its middle; a larger one in
    windows that overlap by half. Of these the next is always the one with the most tokens known
    or drawn, so that what is drawn grows out of what is there.
    """
    open_cells = masked.copy()
    corners: list[Corner] = []
    for top, bottom, left, right in _blots(masked):
        rows = spread(top, bottom, grid[0], masked.shape[0])
        columns = spread(left, right, grid[1], masked.shape[1])
        corners += _open_windows(open_cells, rows, columns, grid)
    return corners


def _make_plan(masked: Mask, grid: tuple[int, int]) -> WindowPlan:
    """The corners, and what waits for what.

    A window depends on an earlier one if they share a masked token. To wait for the latest at each
    of its tokens is enough: that one has waited for those before.
    """
    corners = plan_windows(masked, grid)
    first, latest = np.full(masked.shape, -1), np.full(masked.shape, -1)
    followers: list[list[int]] = [[] for _ in corners]
    waits = []
    for window, corner in enumerate(corners):
        area = area_of(corner, grid)
        here = masked[area]
        awaited = set(latest[area][here].tolist()) - {-1}
        for earlier in awaited:
            followers[earlier].append(window)
        waits.append(len(awaited))
        first[area][here & (latest[area] == -1)] = window
        latest[area] = window
    joined = tuple(tuple(later) for later in followers)
    return WindowPlan(grid, masked, tuple(corners), first, joined, tuple(waits))


def area_of(corner: Corner, grid: tuple[int, int]) -> tuple[slice, slice]:
    """Where the window at a corner lies, in tokens."""
    row, column = corner
    return slice(row, row + grid[0]), slice(column, column + grid[1])


def _open_windows(
    open_cells: Mask, rows: list[int], columns: list[int], grid: tuple[int, int]
) -> list[Corner]:
    """The windows at these rows and columns that have open cells, always the one with the fewest
    next, of several the first. Its cells are closed.
    """
    spanned = open_cells[rows[0] : rows[-1] + grid[0], columns[0] : columns[-1] + grid[1]]
    if not spanned.any():
        return []
    if spanned.shape == grid:  # one window, as with every speck of thousands
        spanned[:] = False
        return [(rows[0], columns[0])]
    counts = _count_in_windows(open_cells, rows, columns, grid)
    waiting = [(count, place) for place, count in enumerate(counts.ravel().tolist()) if count]
    heapify(waiting)
    corners = []
    while waiting:
        count, place = heappop(waiting)
        across, down = place % len(columns), place // len(columns)
        if count != counts[down, across]:
            continue  # it has fewer by now, and waits with that number too, unless it is 0
        row, column = rows[down], columns[across]
        open_cells[area_of((row, column), grid)] = False
        corners.append((row, column))
        top, bottom = _overlapping(rows, row, grid[0])
        left, right = _overlapping(columns, column, grid[1])
        before = counts[top:bottom, left:right].copy()
        after = _count_in_windows(open_cells, rows[top:bottom], columns[left:right], grid)
        counts[top:bottom, left:right] = after
        for i, j in np.argwhere((after != before) & (after > 0)).tolist():
            place = (top + i) * len(columns) + left + j
            heappush(waiting, (int(after[i, j]), place))
    return corners


def _overlapping(begins: list[int], begin: int, length: int) -> tuple[int, int]:
    """Which of the places in ascending order, from one up to another, begin less than a length
    away.
    """
    return bisect_right(begins, begin - length), bisect_left(begins, begin + length)


def _blots(masked: Mask) -> list[tuple[int, int, int, int]]:
    """The bounds (top, bottom, left, right) of each group of masked tokens that touch, be it at a
    corner, in the order of their first tokens.
    """
    edges = np.diff(np.pad(masked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)  # runs of masked tokens in a row
    ends = np.nonzero(edges == -1)[1]
    # The runs of the row above that touch one follow one another: those that do not end before it,
    # up to the last that does not start behind it.
    stride = masked.shape[1] + 1
    above = (rows - 1) * stride
    lowest = np.searchsorted(rows * stride + ends, above + starts)
    counts = np.searchsorted(rows * stride + starts, above + ends, side="right") - lowest
    below = np.repeat(np.arange(len(rows)), counts)
    touched = np.arange(len(below)) - np.repeat(counts.cumsum() - counts - lowest, counts)
    _, blot = np.unique(_first_of_group(len(rows), below, touched), return_inverse=True)
    bounds = np.empty((int(blot.max(initial=-1)) + 1, 4), np.int64)
    bounds[:] = masked.shape[0], 0, masked.shape[1], 0
    np.minimum.at(bounds[:, 0], blot, rows)
    np.maximum.at(bounds[:, 1], blot, rows + 1)
    np.minimum.at(bounds[:, 2], blot, starts)
    np.maximum.at(bounds[:, 3], blot, ends)
    return [(top, bottom, left, right) for top, bottom, left, right in bounds.tolist()]


def _first_of_group(count: int, one: Indices, other: Indices) -> Indices:
    """For 0 ... count - 1 the lowest number that it hangs together with, by pairs that touch."""
    first = np.arange(count)
    while (first[one] != first[other]).any():
        low, high = np.minimum(first[one], first[other]), np.maximum(first[one], first[other])
        np.minimum.at(first, high, low)
        while (first[first] != first).any():
            first = first[first]
    return first


def spread(first: int, end: int, length: int, bound: int) -> list[int]:
    """Where windows of that length begin that cover first ... end - 1, overlap by half, stand out
    alike at both ends, and lie within 0 ... bound - 1.

    Together they stand out by a quarter of a window at least, where there is room: one that held
    masked tokens alone would see nothing of the picture that it goes on with.
    """
    stride, margin = max(length // 2, 1), max(length // 4, 1)
    count = 1 + max(-(-(end - first + margin - length) // stride), 0)
    whole = length + (count - 1) * stride
    begin = first - (whole - (end - first)) // 2
    begin = min(max(begin, 0), max(bound - whole, 0))
    return sorted({min(begin + i * stride, bound - length) for i in range(count)})


def _count_in_windows(
    cells: Mask, rows: list[int], columns: list[int], grid: tuple[int, int]
) -> Indices:
    """How many of the cells are True in the window at each of the rows and columns."""
    top, left = rows[0], columns[0]
    spanned = cells[top : rows[-1] + grid[0], left : columns[-1] + grid[1]]
    sums = np.zeros((spanned.shape[0] + 1, spanned.shape[1] + 1), np.int64)
    spanned.cumsum(0, out=sums[1:, 1:]).cumsum(1, out=sums[1:, 1:])
    tops, lefts = np.array(rows) - top, np.array(columns) - left
    within_rows = sums[tops + grid[0]] - sums[tops]
    counts: Indices = within_rows[:, lefts + grid[1]] - within_rows[:, lefts]
    return counts
