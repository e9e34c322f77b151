"""Which cells of a clip are hidden while a transformer learns: what its tasks will hide, mixed.

Masks that fall on each cell alone would let a model copy a cell's neighbour in time, and never
teach it to go on from frames, to fill a box or to move a whole scene (tube masks of Lumos-1,
levels a frame of MaskFlow, known frames of Phenaki and MAGVIT).
"""

import math
import random
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unmask.config import check_bounds
from unmask.devices import sent

KINDS = ("cells", "levels", "beginning", "box", "slots", "tube")
MOST_CORRUPTED = 0.2  # of the known cells of a clip whose beginning is known


@dataclass(frozen=True)
class MaskMix:
    """How often each kind of mask comes up, as weights.

    ``cells`` hides cells anywhere; ``levels`` another share in each slot; ``beginning`` leaves the
    first slots known, ``slots`` any others; ``box`` knows the inside or the outside of a box;
    ``tube`` hides the same cells in all slots. In ``corrupted`` of the clips with known beginnings
    a part of what is known is wrong, so that a model learns not to trust what it drew itself.

    Of what may be hidden a share of cos(u^skew * pi / 2) is, u even in [0, 1]. Most of a clip
    follows from a few of its cells: a ``skew`` above 1 hides nearly all more often.
    """

    cells: float = 0.5
    levels: float = 0.15
    beginning: float = 0.15
    box: float = 0.1
    slots: float = 0.05
    tube: float = 0.05
    corrupted: float = 0.33
    skew: float = 1.0

    def __post_init__(self) -> None:
        shares = {field.name: (0, 1) for field in fields(self)}
        check_bounds(self, **shares | {"skew": (1, 4)})
        if not any(getattr(self, kind) for kind in KINDS):
            raise ValueError(f"give one of {', '.join(KINDS)} a weight above 0")


def clip_mask(
    count: int,
    grid: tuple[int, int, int],
    mix: MaskMix,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Masks (count, cells), at least one cell hidden a clip, and whether known cells of the clip
    may be corrupted, (count,). Luck is torch's own, if no generator is given."""
    slots, rows, columns = grid
    luck = random.Random(int(torch.randint(2**31, (), generator=generator)))
    weights = [getattr(mix, kind) for kind in KINDS]
    free = torch.ones(count, slots, rows, columns, dtype=torch.bool)
    score = torch.rand(count, slots, rows, columns, generator=generator)
    corrupted = torch.zeros(count, dtype=torch.bool)
    for row in range(count):
        kind = luck.choices(KINDS, weights)[0] if slots > 1 else "cells"
        if kind == "levels":
            # A share of its own in each slot: scores of a slot lie all higher or lower.
            score[row] += torch.rand(slots, 1, 1, generator=generator)
        elif kind == "beginning":
            free[row, : luck.randint(1, slots - 1)] = False
            corrupted[row] = luck.random() < mix.corrupted
        elif kind == "slots":
            known = luck.sample(range(slots), luck.randint(1, slots - 1))
            free[row, known] = False
        elif kind == "box":
            height, width = luck.randint(2, rows - 2), luck.randint(2, columns - 2)
            top, left = luck.randint(0, rows - height), luck.randint(0, columns - width)
            inside = torch.zeros(rows, columns, dtype=torch.bool)
            inside[top : top + height, left : left + width] = True
            free[row] = inside if luck.random() < 0.5 else ~inside
        elif kind == "tube":
            score[row] = torch.rand(rows, columns, generator=generator)
    free, score = free.flatten(1), score.flatten(1)
    share = torch.cos(torch.rand(count, 1, generator=generator) ** mix.skew * math.pi / 2)
    hidden = (share * free.sum(1, keepdim=True)).floor().clamp_min(1)
    ranks = score.masked_fill(~free, math.inf).argsort(1).argsort(1)
    return ranks < hidden, corrupted


def corrupt(tokens: Tensor, known: Tensor, rows: Tensor, codes: int) -> Tensor:
    """Tokens (count, cells) of which, in these ``rows`` (count,), up to a fifth of the ``known``
    ones are random codes."""
    share = torch.rand(len(tokens), 1) * MOST_CORRUPTED * rows.unsqueeze(1)
    wrong = sent(torch.rand(tokens.shape) < share, tokens.device) & known
    return torch.where(wrong, torch.randint_like(tokens, codes), tokens)
