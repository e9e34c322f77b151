"""Sites: the windows of a large picture in which what its prompt names is drawn.

All other windows draw the ground between them. Sites stand clear of each other, and mostly of what
is known.
"""

import math

import numpy as np
from numpy.typing import NDArray

from unmask.editing.edits import Indices, Mask

Corner = tuple[int, int]  # row and column of a window's first token
MOST_SITES = 16
MOST_CORNERS = 1 << 12  # about as many are looked at, in a picture however large
MASKED_ENOUGH = 0.75  # a site draws at least so much of what a window can draw at most


def choose_sites(masked: Mask, grid: tuple[int, int], wanted: int) -> list[Corner]:
    """The corners of sites that do not overlap, spread over the masked tokens in the order of
    reading: as many as wanted, or as there is room for; one at least."""
    counts = _count_everywhere(masked, grid)
    corners = np.argwhere(counts >= MASKED_ENOUGH * counts.max())
    step = 1 + math.isqrt(len(corners) // MOST_CORNERS)
    corners = corners[(corners % step == corners[0] % step).all(1)]
    cells = np.argwhere(masked)
    for number in range(min(wanted, MOST_SITES, len(cells)), 0, -1):
        ways = [
            _nearest_apart(corners, _middles(cells, number, lines) - (np.array(grid) - 1) / 2, grid)
            for lines in range(1, number + 1)
        ]
        if found := [way for way in ways if way]:
            best = max(found, key=lambda way: _distance(way, grid))
            return sorted(best, key=lambda site: (round(site[0] / grid[0]), site[1]))
    return []


def area_apart(corner: Corner, grid: tuple[int, int], masked: Mask) -> tuple[slice, slice]:
    """A site without its rim, which windows around may see and draw: so it is told which ground
    they have. All of it if next to nothing but the rim is masked."""
    whole, inner = (
        tuple(
            slice(begin + rim, begin + length - rim)
            for begin, length, rim in zip(corner, grid, rims, strict=True)
        )
        for rims in ((0, 0), [max(1, length // 8) if length >= 4 else 0 for length in grid])
    )
    rows, columns = inner if 4 * masked[inner].sum() >= masked[whole].sum() else whole
    return rows, columns


def _middles(cells: Indices, number: int, lines: int) -> NDArray[np.float64]:
    """The middles (number, 2) of as many parts of the cells, alike in size, in so many lines."""
    counts = [number // lines + (line < number % lines) for line in range(lines)]
    ends = np.cumsum(counts) * len(cells) // number
    parts: list[Indices] = []
    for line, count in zip(np.split(cells, ends[:-1]), counts, strict=True):
        parts += np.array_split(line[line[:, 1].argsort(kind="stable")], count)
    return np.array([part.mean(0) for part in parts])


def _distance(sites: list[Corner], grid: tuple[int, int]) -> float:
    """How many windows the nearest two of them lie apart, along both axes together."""
    places = np.array(sites) / grid
    pairs = np.hypot(*np.moveaxis(places[:, None] - places, -1, 0))
    return float(pairs[~np.eye(len(sites), dtype=bool)].min(initial=np.inf))


def _nearest_apart(
    corners: Indices, wanted: NDArray[np.float64], grid: tuple[int, int]
) -> list[Corner]:
    """Of the corners those nearest to the wanted ones, one each, whose windows do not overlap; none
    if there is no room."""
    chosen: list[Corner] = []
    for place in wanted:
        if not len(corners):
            return []
        row, column = corners[((corners - place) ** 2).sum(1).argmin()].tolist()
        chosen.append((row, column))
        corners = corners[(abs(corners - (row, column)) >= grid).any(1)]
    return chosen


def _count_everywhere(masked: Mask, grid: tuple[int, int]) -> Indices:
    """How many masked tokens the window at each corner has."""
    sums = np.pad(masked.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    within_rows = sums[grid[0] :] - sums[: -grid[0]]
    counts: Indices = within_rows[:, grid[1] :] - within_rows[:, : -grid[1]]
    return counts
