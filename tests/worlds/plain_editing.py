"""Editing done plainly, one window after another on whole pictures in float64: what the package
gives to the byte, and faster.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unmask.editing import Edit
from unmask.editing.windows import spread
from unmask.tokenizers.base import Tokenizer

OPAQUE = 255
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Corner = tuple[int, int]


def plan_plainly(masked: Mask, grid: tuple[int, int]) -> list[Corner]:
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
        while (counts := _count_in_windows(open_cells, rows, columns, grid)).any():
            fewest = int(np.where(counts > 0, counts, masked.size + 1).argmin())
            row, column = rows[fewest // len(columns)], columns[fewest % len(columns)]
            open_cells[row : row + grid[0], column : column + grid[1]] = False
            corners.append((row, column))
    return corners


def draw_plainly(
    edit: Edit,
    tokenizer: Tokenizer,
    grid: tuple[int, int],
    choose: Callable[[int], Tensor],
    draw: Callable[[Tensor, Tensor, int], Tensor],
) -> Image.Image:
    """The picture; ``draw`` gives the tokens of a window for those it holds, which of them are
    unknown, and its number.
    """
    patch, (rows, columns) = tokenizer.patch, grid
    mask, masked = _padded(edit.mask, patch, grid), _masked_cells(edit, patch, grid)
    seen = _seen(edit)
    canvas = _padded(filled(seen, ~edit.mask) if edit.blind else seen, patch, grid)
    unknown = _redrawn(masked, edit.strength, choose)
    tokens, finished = np.zeros(masked.shape, np.int64), np.zeros(masked.shape, bool)
    # Windows that overlap are averaged, each with less and less say towards its rim, where its
    # decoder sees nothing of what lies beyond.
    say = np.multiply.outer(_tent(rows * patch), _tent(columns * patch))[..., None].astype(float)
    sums, says = np.zeros(canvas.shape), np.zeros((*mask.shape, 1))
    corners = plan_plainly(masked, grid)
    for index, (row, column) in enumerate(corners):
        cells = np.s_[row : row + rows, column : column + columns]
        area = np.s_[
            row * patch : (row + rows) * patch, column * patch : (column + columns) * patch
        ]
        encoded = tokenizer.encode(_to_tensor(canvas[area]))[0].cpu().numpy()
        now = np.where(finished[cells], tokens[cells], encoded)
        fresh = unknown[cells] & ~finished[cells]
        if fresh.any():
            start, where = torch.from_numpy(now).flatten(), torch.from_numpy(fresh).flatten()
            drawn = draw(start, where, index)
            now = np.where(fresh, drawn.cpu().view(rows, columns).numpy(), now)
        tokens[cells] = now
        finished[cells] |= masked[cells]
        decoded = tokenizer.decode(torch.from_numpy(now)[None])[0]
        sums[area] += say * decoded.permute(1, 2, 0).double().cpu().numpy()
        says[area] += say
        canvas[area] = np.where(mask[area][..., None], sums[area] / says[area], canvas[area])
    height, width = edit.mask.shape
    return _composed(edit, seen, canvas[:height, :width])


def _tent(length: int) -> NDArray[np.int_]:
    """1, 2, 3 ... 3, 2, 1."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))


def _blots(masked: Mask) -> list[tuple[int, int, int, int]]:
    """The bounds (top, bottom, left, right) of each group of masked tokens that touch."""
    cells = [(int(row), int(column)) for row, column in np.argwhere(masked)]
    unvisited, blots = set(cells), []
    for first in cells:
        if first not in unvisited:
            continue
        unvisited.remove(first)
        blot = [first]
        for row, column in blot:  # grows while it is walked
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & unvisited
            unvisited -= around
            blot.extend(around)
        rows, columns = zip(*blot, strict=True)
        blots.append((min(rows), max(rows) + 1, min(columns), max(columns) + 1))
    return blots


def _count_in_windows(
    cells: Mask, rows: list[int], columns: list[int], grid: tuple[int, int]
) -> NDArray[np.int_]:
    """How many of the cells are True in the window at each of the rows and columns."""
    sums = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    within_rows = sums[[row + grid[0] for row in rows]] - sums[rows]
    counts: NDArray[np.int_] = (
        within_rows[:, [column + grid[1] for column in columns]] - within_rows[:, columns]
    )
    return counts


def _masked_cells(edit: Edit, patch: int, grid: tuple[int, int]) -> Mask:
    """Which tokens of the picture, padded to at least a window of the grid, hold masked pixels."""
    mask = _padded(edit.mask, patch, grid)
    rows, columns = mask.shape[0] // patch, mask.shape[1] // patch
    cells: Mask = np.logical_or.reduce(mask.reshape(rows, patch, columns, patch), axis=(1, 3))
    return cells


def _padded(values: NDArray[Any], patch: int, grid: tuple[int, int]) -> NDArray[Any]:
    """(height, width, ...) with its rim repeated, up to whole tokens and at least one window."""
    sides = [
        (0, max(-(-length // patch), cells) * patch - length)
        for length, cells in zip(values.shape[:2], grid, strict=True)
    ]
    return np.pad(values, sides + [(0, 0)] * (values.ndim - 2), mode="edge")


def _seen(edit: Edit) -> Floats:
    """The colours (height, width, 3) in [0, 1]; where all is transparent, those around it."""
    colours = edit.pixels[..., :3] / 255
    return colours if edit.pixels.shape[2] == 3 else filled(colours, edit.pixels[..., 3] > 0)


def filled(colours: Floats, known: Mask) -> Floats:
    """The colours with the unknown ones made up of known ones around; mid grey if there are none.

    Each unknown pixel mixes the nearest known ones on its left, right, above and below, the nearer
    the more; what has none in its row and column comes from those filled before.
    """
    if not known.any():
        return np.full_like(colours, 0.5)
    while not known.all():  # at most two rounds: after one, a row and a column are all known
        sums, weights = np.zeros_like(colours), np.zeros((*known.shape, 1))
        for turn in range(4):
            turned, places = np.rot90(known, turn), np.arange(known.shape[turn % 2 - 1])
            nearest = np.maximum.accumulate(np.where(turned, places, -1), axis=1)
            weight = np.where(nearest < 0, 0, 1.0 / np.maximum(places - nearest, 1) ** 2)
            found = np.take_along_axis(np.rot90(colours, turn), nearest[..., None], axis=1)
            sums += np.rot90(found * weight[..., None], -turn)
            weights += np.rot90(weight[..., None], -turn)
        colours = np.where(known[..., None], colours, sums / np.where(weights > 0, weights, 1))
        known = known | (weights[..., 0] > 0)
    return colours


def _redrawn(masked: Mask, strength: float, choose: Callable[[int], Tensor]) -> Mask:
    """Which of the masked tokens are unknown: so large a share of them, but at least one."""
    if strength == 1:
        return masked
    places = np.flatnonzero(masked)
    order = choose(len(places)).cpu().argsort(stable=True).numpy()
    unknown = np.zeros_like(masked)
    unknown.flat[places[order[: max(1, round(strength * len(places)))]]] = True
    return unknown


def _to_tensor(pixels: Floats) -> Tensor:
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None]


def _composed(edit: Edit, seen: Floats, drawn: Floats) -> Image.Image:
    """What is drawn inside the mask, what was sent outside of it."""
    weight = depth(edit.mask, edit.feather)[..., None] / (edit.feather + 1)
    blended = seen * (1 - weight) + drawn * weight
    # In fp32, as text to image rounds: the same tokens are to be the same bytes.
    changed = (blended.astype(np.float32) * 255).round().astype(np.uint8)
    pixels = np.where(edit.mask[..., None], changed, edit.pixels[..., :3])
    if edit.keeps_alpha:
        alpha = np.where(edit.mask, np.uint8(OPAQUE), edit.pixels[..., 3])
        pixels = np.dstack([pixels, alpha])
    return Image.fromarray(pixels)


def depth(mask: Mask, feather: int) -> Floats:
    """How many pixels inside the mask each lies, up to ``feather`` + 1; outside of it 0.

    The border of the picture is no edge of the mask.
    """
    deepest, places = feather + 1.0, np.arange(mask.shape[1])
    before = np.maximum.accumulate(np.where(mask, -np.inf, places), axis=1)
    behind = np.minimum.accumulate(np.where(mask, np.inf, places)[:, ::-1], axis=1)[:, ::-1]
    across = np.minimum(np.minimum(places - before, behind - places), deepest)
    rows = np.pad(across**2, ((feather, feather), (0, 0)), constant_values=deepest**2)
    nearest = np.full(mask.shape, deepest**2)
    for shift in range(2 * feather + 1):
        np.minimum(nearest, rows[shift:][: len(mask)] + (shift - feather) ** 2, out=nearest)
    depth: Floats = np.sqrt(nearest)
    return depth
