"""Halton order: tokens revealed together lie far apart (Halton-MaskGIT, arXiv 2503.17076)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unmask.sampling.schedulers.base import Scheduler, ScoreContext


@dataclass(frozen=True)
class Halton(Scheduler):
    """Minus the rank in the Halton order, which each image shifts around the grid by its own noise
    if ``shift``.
    """

    shift: bool = True

    def score(self, context: ScoreContext) -> Tensor:
        rows, columns = context.grid
        ranks = halton_ranks(rows, columns).to(context.uniforms.device)
        if not self.shift:
            return -ranks.expand_as(context.uniforms)
        down = (context.first_uniforms[:, :1] * rows).long()
        right = (context.first_uniforms[:, 1:2] * columns).long() if columns * rows > 1 else down
        cell = torch.arange(rows * columns, device=ranks.device)
        shifted = (cell // columns + down) % rows * columns + (cell % columns + right) % columns
        return -ranks[shifted]


@lru_cache(maxsize=64)
def halton_order(rows: int, columns: int) -> Tensor:
    """A permutation of the cells (rows * columns,), numbered row by row, in the order of the
    sequence.

    Points are drawn until every cell was met: 64x64 needs 10,363, more than the 10,000 of the
    published code.
    """
    seen: dict[int, None] = {}
    index = 1
    while len(seen) < rows * columns:
        cell = int(radical_inverse(index, 2) * rows) * columns + int(
            radical_inverse(index, 3) * columns
        )
        seen.setdefault(cell)
        index += 1
    return torch.tensor(list(seen))


@lru_cache(maxsize=64)
def halton_ranks(rows: int, columns: int) -> Tensor:
    """The place of each cell in the order, (rows * columns,) fp32."""
    return halton_order(rows, columns).argsort().float()


def radical_inverse(index: int, base: int) -> float:
    """The digits of ``index`` in ``base``, mirrored behind the point: evenly spread in [0, 1)."""
    numerator, denominator = 0, 1
    while index:
        index, digit = divmod(index, base)
        numerator = numerator * base + digit
        denominator *= base
    return numerator / denominator
