"""Batches of few sizes: shapes repeat, so a GPU's graphs and a compiler's kernels do too."""

from typing import Any, Generic

import torch
from torch import Tensor

from unmask.sampling.backbone import Backbone, P, Pass


class Padded(Generic[P]):
    """A backbone that sees batches of powers of two only; what is filled up repeats the last row.

    ``computed`` counts the rows that went through it, ``padding`` those of them that were filled
    up. With ``pad`` off it only counts.
    """

    def __init__(self, backbone: Backbone[P], pad: bool = True) -> None:
        self.backbone, self.pad = backbone, pad
        self.computed = self.padding = 0

    @property
    def mask_id(self) -> int:
        return self.backbone.mask_id

    def full(
        self, tokens: Tensor, prefix: P, /, *, left: Tensor, keep: bool, attend: Tensor | None
    ) -> Pass:
        """As the backbone's."""
        index = self._index(tokens)
        if index is None:
            return self.backbone.full(tokens, prefix, left=left, keep=keep, attend=attend)
        made = self.backbone.full(
            tokens[index], prefix.select(index), left=left[index], keep=keep, attend=attend
        )
        cache = None if made.cache is None else made.cache.select(index[: len(tokens)])
        return Pass(made.logits[: len(tokens)], cache, made.attention)

    def local(
        self, tokens: Tensor, positions: Tensor, prefix: P, cache: Any, /, *, left: Tensor
    ) -> Tensor:
        """As the backbone's."""
        index = self._index(tokens)
        if index is None:
            return self.backbone.local(tokens, positions, prefix, cache, left=left)
        made = self.backbone.local(
            tokens[index],
            positions[index],
            prefix.select(index),
            cache.select(index),
            left=left[index],
        )
        return made[: len(tokens)]

    def _index(self, tokens: Tensor) -> Tensor | None:
        """Which rows to run, in the place of these; None if it is just these."""
        rows = len(tokens)
        size = 1 << (rows - 1).bit_length() if self.pad else rows
        self.computed += size
        self.padding += size - rows
        if size == rows:
            return None
        return torch.arange(size, device=tokens.device).clamp_max(rows - 1)
