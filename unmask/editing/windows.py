"""Windows: where a picture that is larger than the model's grid is drawn, and in which order.

All of it is counted in tokens. A plan depends on the mask and the grid alone, so that the images of
a request share one. So do the frames of a clip, whose mask is what may change in any of them.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from unmask.editing.edits import Indices, Mask
from unmask.editing.sites import area_apart, choose_sites
from unmask.errors import RequestError

Corner = tuple[int, int]  # row and column of a window's first token
Grid = tuple[int, ...]  # as a model tells it; an edit needs (rows, columns)
Box = tuple[float, float, float, float]  # left, top, right, bottom
Names = range | None  # of a prompt, that a window draws; None: it draws the prompt as it is
Blot = tuple[int, int, int, int]  # masked tokens that touch: their top, bottom, left, right bounds


class Masked(Protocol):
    """What is drawn over: a picture or a clip."""

    @property
    def mask(self) -> Mask:
        """Where anything may change, (height, width)."""
        ...


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of an edit, numbered in the order to draw them in.

    Where windows share what a prompt names, each draws some of the names, or none. Those that draw
    none do not see what is ``apart``: they would go on with it, or draw it once more.
    """

    grid: tuple[int, int]
    masked: Mask  # (rows, columns) of the padded picture
    corners: tuple[Corner, ...]
    names: tuple[Names, ...]  # by window
    apart: Mask  # (rows, columns): what windows without a name neither see nor draw
    first: Indices  # (rows, columns): the window that draws a masked token; -1 if it is not masked
    followers: tuple[tuple[int, ...], ...]  # by window: the later ones that wait for it directly
    waits: tuple[int, ...]  # by window: for how many earlier ones it waits directly

    def cells(self, window: int) -> tuple[slice, slice]:
        """Where a window lies, in tokens."""
        return area_of(self.corners[window], self.grid)


class Sharing(NamedTuple):
    """How windows share what a prompt names: so many ``names``, those of each blot by itself or of
    all of them ``together``. ``grounded``: the prompt tells the ground too, so that windows with a
    name need not see it. ``things``, in pixels, stand in the picture whole, and are not to be gone
    on with."""

    names: int
    together: bool
    grounded: bool
    things: tuple[Box, ...] = ()


# An edit is planned when its cost is reckoned, and again by whoever draws it.
_plans: WeakKeyDictionary[Masked, dict[object, WindowPlan]] = WeakKeyDictionary()


def window_plan(edit: Masked, patch: int, grid: Grid, sharing: Sharing | None = None) -> WindowPlan:
    """The plan of an edit for tokens of ``patch`` x ``patch`` pixels, kept as long as the edit.
    Without ``sharing`` each window draws the whole prompt.

    RequestError for a grid of other than two axes.
    """
    plans = _plans.setdefault(edit, {})
    key = (patch, grid, sharing)
    if key not in plans:
        if len(grid) != 2:
            raise RequestError(
                f"model: its grid {grid} has {len(grid)} axes, and an edit needs one of two, rows "
                "and columns; choose a model of pictures",
                "model",
            )
        cells = (grid[0], grid[1])
        plans[key] = _make_plan(masked_cells(edit, patch, grid), cells, patch, sharing)
    return plans[key]


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
    for blot in _blots(masked):
        corners += _open_windows(open_cells, *_lattice(blot, grid, masked), grid)
    return corners


def _lattice(blot: Blot, grid: tuple[int, int], masked: Mask) -> tuple[list[int], list[int]]:
    """The rows and columns at which windows begin that cover a blot."""
    top, bottom, left, right = blot
    rows = spread(top, bottom, grid[0], masked.shape[0])
    return rows, spread(left, right, grid[1], masked.shape[1])


class Shared(NamedTuple):
    """Windows in the order to draw them in, which names of the prompt each draws, and what windows
    without a name neither see nor draw, (rows, columns)."""

    corners: list[Corner]
    names: list[Names]
    apart: Mask


def _share_windows(masked: Mask, grid: tuple[int, int], sharing: Sharing) -> Shared:
    """The windows of ``plan_windows``, and sites between them for what the prompt names. A blot
    that fits into a window draws all of it, unless blots are drawn together."""
    shared = Shared([], [], np.zeros_like(masked))
    blots = _blots(masked)
    lattices = [_lattice(blot, grid, masked) for blot in blots]
    sites: list[dict[Corner, range] | None]
    if sharing.together:
        all_sites = _named_sites(masked, grid, sharing.names)
        nearest = {site: _nearest_blot(site, grid, blots) for site in all_sites}
        sites = [
            {site: drawn for site, drawn in all_sites.items() if nearest[site] == number}
            for number in range(len(blots))
        ]
    else:
        sites = [
            None
            if len(rows) == len(columns) == 1
            else _named_sites(_within(blot, masked), grid, sharing.names)
            for blot, (rows, columns) in zip(blots, lattices, strict=True)
        ]
    for site in (site for chosen in sites for site in chosen or ()):
        area = area_apart(site, grid, masked)
        shared.apart[area] = masked[area]
    open_cells = masked.copy()
    for chosen, lattice in zip(sites, lattices, strict=True):
        if chosen is None:
            corners = _open_windows(open_cells, *lattice, grid)
            windows: list[tuple[Corner, Names]] = [(corner, None) for corner in corners]
        else:
            windows = _grow(open_cells, shared.apart, *lattice, grid, chosen, sharing.grounded)
        for corner, drawn in windows:
            shared.corners.append(corner)
            shared.names.append(drawn)
    return shared


def _named_sites(masked: Mask, grid: tuple[int, int], names: int) -> dict[Corner, range]:
    """Sites, and which of so many names each draws."""
    if not names:
        return {}
    sites = choose_sites(masked, grid, names)
    ends = [place * names // len(sites) for place in range(len(sites) + 1)]
    return {site: range(*ends[place : place + 2]) for place, site in enumerate(sites)}


def _within(blot: Blot, masked: Mask) -> Mask:
    top, bottom, left, right = blot
    inside = np.zeros_like(masked)
    inside[top:bottom, left:right] = masked[top:bottom, left:right]
    return inside


def _nearest_blot(site: Corner, grid: tuple[int, int], blots: Sequence[Blot]) -> int:
    """The number of the blot whose bounds are nearest to the middle of a site."""
    row, column = (begin + length // 2 for begin, length in zip(site, grid, strict=True))
    away = [
        max(top - row, row - bottom + 1, 0) + max(left - column, column - right + 1, 0)
        for top, bottom, left, right in blots
    ]
    return away.index(min(away))


def _grow(
    open_cells: Mask,
    apart: Mask,
    rows: list[int],
    columns: list[int],
    grid: tuple[int, int],
    sites: dict[Corner, range],
    grounded: bool,
) -> list[tuple[Corner, Names]]:
    """Sites with their names, and the windows at these rows and columns around them, with none.

    If the prompt tells the ground, sites come first. Else the next is always the window of which
    most is known or drawn, and a site as soon as its rim is. Their cells are closed.
    """
    size, waiting = grid[0] * grid[1], dict(sites)
    windows: list[tuple[Corner, Names]] = []
    unknown = _count_in_windows(open_cells, rows, columns, grid)
    drawable = _count_in_windows(open_cells & ~apart, rows, columns, grid)
    while True:
        left = np.where(drawable > 0, unknown, size + 1)
        down, across = divmod(int(left.argmin()), len(columns))
        corner, names = (rows[down], columns[across]), range(0)
        rims = [(site, area_of(site, grid)) for site in waiting]
        ready = [
            site for site, area in rims if grounded or not (open_cells[area] & ~apart[area]).any()
        ]
        if not ready and left[down, across] >= size and waiting:
            # Nothing is known: the one in the middle tells all others what ground there is.
            middle = ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)
            ready = [min(waiting, key=lambda site: math.dist(site, middle))]
        elif not ready and left[down, across] > size:
            return windows
        if ready:
            corner = ready[0]
            names = waiting.pop(corner)
        area = area_of(corner, grid)
        open_cells[area] &= False if names else apart[area]
        windows.append((corner, names))
        top, bottom = _overlapping(rows, corner[0], grid[0])
        first, last = _overlapping(columns, corner[1], grid[1])
        here = np.s_[top:bottom, first:last]
        if unknown[here].size:
            some = open_cells, rows[top:bottom], columns[first:last], grid
            unknown[here] = _count_in_windows(*some)
            drawable[here] = _count_in_windows(open_cells & ~apart, *some[1:])


def _make_plan(
    masked: Mask, grid: tuple[int, int], patch: int, sharing: Sharing | None
) -> WindowPlan:
    """The corners, and what waits for what.

    A window depends on an earlier one if they share a masked token. To wait for the latest at each
    of its tokens is enough: that one has waited for those before.
    """
    if sharing is None or masked.shape == grid:
        corners = plan_windows(masked, grid)
        shared = Shared(corners, [None] * len(corners), np.zeros_like(masked))
    else:
        shared = _share_windows(masked, grid, sharing)
        for left, top, right, bottom in sharing.things:
            rows = slice(max(0, int(top // patch)), math.ceil(bottom / patch))
            columns = slice(max(0, int(left // patch)), math.ceil(right / patch))
            shared.apart[rows, columns] |= ~masked[rows, columns]
    first, latest = np.full(masked.shape, -1), np.full(masked.shape, -1)
    followers: list[list[int]] = [[] for _ in shared.corners]
    waits = []
    for window, corner in enumerate(shared.corners):
        area = area_of(corner, grid)
        here = masked[area]
        awaited = set(latest[area][here].tolist()) - {-1}
        for earlier in awaited:
            followers[earlier].append(window)
        waits.append(len(awaited))
        draws = here & (first[area] == -1)
        if shared.names[window] == range(0):
            draws &= ~shared.apart[area]
        first[area][draws] = window
        latest[area][here] = window
    joined = tuple(tuple(later) for later in followers)
    return WindowPlan(
        grid,
        masked,
        tuple(shared.corners),
        tuple(shared.names),
        shared.apart,
        first,
        joined,
        tuple(waits),
    )


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


def _blots(masked: Mask) -> list[Blot]:
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
