"""What a step did to each cell of a row, and how sure the model was: for whoever watches it.

Nothing here has a say in what is drawn, and nothing is computed for rows that nobody watches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# A sign a cell: readable in a terminal, and one byte in JSON.
FIXED, MASKED, KEPT, REVEALED, TAKEN_BACK = "#.=+-"
_SIGNS = FIXED + MASKED + KEPT + REVEALED + TAKEN_BACK


@dataclass(frozen=True)
class Trace:
    """A row after a step, cell by cell in the order of the grid.

    ``signs``: ``#`` known, ``.`` masked still, ``=`` revealed before, ``+`` revealed by this step,
    ``-`` masked again by it. ``sure``: 255 times the probability that the model gave the value when
    it was last drawn here, at temperature 1; of a masked cell, the value that it would have had.
    """

    signs: str
    sure: bytes


def probabilities_of(logits: Tensor, values: Tensor) -> Tensor:
    """The probability of each value (..., cells) by its logits (..., cells, codebook)."""
    chosen = logits.gather(-1, values.unsqueeze(-1)).squeeze(-1)
    return (chosen - logits.logsumexp(-1)).exp()


def trace(before: Tensor, after: Tensor, unknown: Tensor, sure: Tensor, mask_id: int) -> Trace:
    """What became of a row's tokens (cells,); ``unknown`` (cells,) bool are those that are drawn,
    ``sure`` (cells,) their probabilities."""
    was, now = before == mask_id, after == mask_id
    numbers = torch.where(
        now,
        torch.where(was, _SIGNS.index(MASKED), _SIGNS.index(TAKEN_BACK)),
        torch.where(was, _SIGNS.index(REVEALED), _SIGNS.index(KEPT)),
    ).masked_fill(~unknown, _SIGNS.index(FIXED))
    shares = (sure.nan_to_num() * 255).round().to(torch.uint8)
    # Of a device, both come to the host in one copy.
    signs, levels = torch.stack([numbers.to(torch.uint8), shares]).tolist()
    return Trace("".join(_SIGNS[number] for number in signs), bytes(levels))
