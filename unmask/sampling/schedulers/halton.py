"""Halton order: tokens revealed together lie far apart (Halton-MaskGIT, arXiv 2503.17076)."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from unmask.sampling.backbone import RowTensors
from unmask.sampling.methods import option
from unmask.sampling.scheduler import Scheduler, ScoreContext

# By the number of axes, slowest first. Rows and columns have the same base in a picture and in a
# clip, so the order within a clip of one frame is that of a picture.
_BASES = {1: (2,), 2: (2, 3), 3: (5, 2, 3)}


@dataclass(frozen=True)
class Ranks(RowTensors):
    """The place of each cell in its row's order, (rows, cells) fp32."""

    row_axes: ClassVar[tuple[int, ...]] = (0,)

    ranks: Tensor


@dataclass(frozen=True)
class Halton(Scheduler, name="halton"):
    """Minus the rank in the Halton order, which each image shifts around the grid by its own noise
    unless told not to.
    """

    halton_shift: bool = option(
        True, "move 'halton' order around the grid, for each image by its own noise"
    )

    def begin(self, grid: tuple[int, ...], uniforms: Tensor) -> RowTensors:
        ranks = halton_ranks(grid).to(uniforms.device)
        if not self.halton_shift:
            return Ranks(ranks[None])
        # Rows and columns take the first two numbers, whatever axes come before them.
        order = [*range(len(grid))[-2:], *range(len(grid))[:-2]]
        shifts = [0] * len(grid)
        for number, axis in enumerate(order):
            shifts[axis] = int(uniforms[0, min(number, uniforms.shape[1] - 1)] * grid[axis])
        axes = tuple(range(len(grid)))
        back = [-shift for shift in shifts]
        return Ranks(ranks.view(grid).roll(back, axes).flatten()[None])

    def score(self, context: ScoreContext) -> Tensor:
        assert isinstance(context.memory, Ranks), "a row begins with its ranks"
        return -context.memory.ranks


@lru_cache(maxsize=64)
def halton_order(grid: tuple[int, ...]) -> Tensor:
    """A permutation of the cells (cells,), numbered along the last axis first, in the order of the
    sequence.

    Points are drawn until every cell was met: 64x64 needs 10,363, more than the 10,000 of the
    published code.
    """
    bases = _BASES[len(grid)]
    cells = math.prod(grid)
    seen: dict[int, None] = {}
    index = 1
    while len(seen) < cells:
        cell = 0
        for base, side in zip(bases, grid, strict=True):
            cell = cell * side + int(radical_inverse(index, base) * side)
        seen.setdefault(cell)
        index += 1
    return torch.tensor(list(seen))


@lru_cache(maxsize=64)
def halton_ranks(grid: tuple[int, ...]) -> Tensor:
    """The place of each cell in the order, (cells,) fp32."""
    return halton_order(grid).argsort().float()


def radical_inverse(index: int, base: int) -> float:
    """The digits of ``index`` in ``base``, mirrored at the point: evenly spread in [0, 1)."""
    numerator, denominator = 0, 1
    while index:
        index, digit = divmod(index, base)
        numerator = numerator * base + digit
        denominator *= base
    return numerator / denominator
