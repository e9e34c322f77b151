"""Square grids of tokens whose layers run over cells of one token, or of two by two.

Cells and tokens are numbered row by row of their grids.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Cells(NamedTuple):
    """The cells that hold some tokens: ``cells`` (rows, some) int64, each once, and a row's first
    again where others have more; ``slots`` (rows, tokens) tells which of them holds each token."""

    cells: Tensor
    slots: Tensor


@dataclass(frozen=True)
class CompressedGrid:
    """``side`` tokens along a side, ``by`` of them along that of a cell."""

    side: int
    by: int

    @property
    def cell_side(self) -> int:
        """The cells along a side."""
        return self.side // self.by

    def cells_of(self, places: Tensor) -> Cells:
        """The cells that hold the tokens at ``places`` (rows, some)."""
        if self.by == 1:
            slots = torch.arange(places.shape[1], device=places.device)
            return Cells(places, slots.expand_as(places))
        holding = places // self.side // self.by * self.cell_side + places % self.side // self.by
        marked = holding.new_zeros(len(holding), self.cell_side**2).scatter(1, holding, 1)
        counts = marked.sum(1, keepdim=True)  #                             (rows, 1)
        # A stable sort brings the marked cells to the front and leaves them in their order.
        order = marked.sort(dim=1, descending=True, stable=True).indices  # (rows, cells)
        most = min(places.shape[1], self.cell_side**2)
        if places.device.type == "cpu":  # any other would be waited for
            most = int(counts.max())
        index = torch.arange(most, device=places.device)
        cells = order.gather(1, torch.where(index < counts, index, 0))
        return Cells(cells, (marked.cumsum(1) - 1).gather(1, holding))

    def tokens_of(self, cells: Tensor) -> Tensor:
        """The places (rows, cells, by, by) of the tokens of ``cells`` (rows, cells)."""
        corners = cells // self.cell_side * self.by * self.side + cells % self.cell_side * self.by
        within = torch.arange(self.by, device=cells.device)
        return corners[..., None, None] + within[:, None] * self.side + within

    def place_within(self, places: Tensor) -> Tensor:
        """Which of its cell's tokens each is, row by row."""
        return places // self.side % self.by * self.by + places % self.side % self.by

    def to_tokens(self, maps: Tensor) -> Tensor:
        """Maps (rows, tokens, text) of maps (rows, cells, text): tokens of a cell share its own."""
        grid = maps.view(len(maps), self.cell_side, self.cell_side, -1)
        return grid.repeat_interleave(self.by, 1).repeat_interleave(self.by, 2).flatten(1, 2)
