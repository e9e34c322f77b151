"""Batches of few sizes: shapes repeat, so a GPU's graphs and a compiler's kernels do too."""

import torch
from torch import Tensor

from unmask.sampling.backbone import Backbone, Pass, Positions, RowTensors


class Padded:
    """A backbone that sees batches of powers of two only; what is filled up repeats the last row.

    ``computed`` counts the rows that went through it, ``padding`` those of them that were filled
    up. With ``pad`` off it only counts.
    """

    def __init__(self, backbone: Backbone, pad: bool = True) -> None:
        self.backbone, self.pad = backbone, pad
        self.computed = self.padding = 0

    @property
    def mask_id(self) -> int:
        """As the backbone's."""
        return self.backbone.mask_id

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        /,
        *,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        """As the backbone's."""
        index = self._index(tokens)
        if index is None:
            return self.backbone.full(
                tokens,
                prefix,
                steps_left=steps_left,
                remember=remember,
                attention_rows=attention_rows,
            )
        found = self.backbone.full(
            tokens[index],
            prefix.select(index),
            steps_left=steps_left[index],
            remember=remember,
            attention_rows=attention_rows,
        )
        memory = None if found.memory is None else found.memory.select(index[: len(tokens)])
        return Pass(found.logits[: len(tokens)], memory, found.attention)

    def local(
        self,
        tokens: Tensor,
        positions: Positions,
        prefix: RowTensors,
        memory: RowTensors,
        /,
        *,
        steps_left: Tensor,
    ) -> Tensor:
        """As the backbone's."""
        index = self._index(tokens)
        if index is None:
            return self.backbone.local(tokens, positions, prefix, memory, steps_left=steps_left)
        filled = positions.counts + positions.counts[-1:] * (len(index) - len(tokens))
        logits = self.backbone.local(
            tokens[index],
            Positions(positions.places[index], filled),
            prefix.select(index),
            memory.select(index),
            steps_left=steps_left[index],
        )
        return logits[: len(tokens)]

    def _index(self, tokens: Tensor) -> Tensor | None:
        """Which rows to run, in the place of these; None if it is just these."""
        rows = len(tokens)
        size = 1 << (rows - 1).bit_length() if self.pad else rows
        self.computed += size
        self.padding += size - rows
        if size == rows:
            return None
        return torch.arange(size, device=tokens.device).clamp_max(rows - 1)
