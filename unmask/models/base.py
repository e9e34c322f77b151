"""What a pipeline asks of a backbone, beside what sampling does (``sampling.backbone``)."""

from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from unmask.models.rows import full_by_rows, local_by_rows
from unmask.sampling.backbone import Pass, Prefix


class Condition(NamedTuple):
    """What a picture shall show, as ids: ``ids`` (rows, length) int64, ``mask`` True where not
    padding.
    """

    ids: Tensor
    mask: Tensor


class ImageBackbone(nn.Module):
    """The base of all families: tokens of a grid and a condition to logits. On a CPU rows run
    ``together`` at a time (``models.rows`` tells why).

    ``mask_id`` is the id of a masked token, ``grid`` the rows and columns of a picture, ``reads``
    what it is conditioned on. ``attends`` tells whether ``full`` can give image-to-text attention,
    ``reuses`` whether it can keep a cache and run ``local`` (ReCAP).
    """

    mask_id: int
    codebook_size: int
    grid: tuple[int, int]
    reads: Literal["text", "label", "none"]
    attends: bool
    reuses: bool

    @property
    def together(self) -> int | None:
        """How many rows run together on a CPU: no more than leave each other's numbers alone, to
        the bit; None for any number, even where they differ in how many positions are their own."""
        return 1

    def layer_count(self, positions: Tensor) -> int:
        """Over how many positions the layers run for these (some,) of one row: rows that differ in
        it do not run together."""
        return len(positions)

    def use_attention(self, name: str) -> None:
        """Choose the attention backend by name."""
        raise NotImplementedError

    def encode(self, condition: Condition) -> Prefix:
        """Whatever depends on the condition alone: computed once a request."""
        raise NotImplementedError

    def full(
        self,
        tokens: Tensor,
        prefix: Any,
        *,
        left: Tensor,
        keep: bool = False,
        attend: Tensor | None = None,
    ) -> Pass:
        """A pass over all tokens: see ``sampling.backbone.Backbone``."""
        if tokens.device.type == "cpu" and self.together:
            args = (tokens, prefix, left, keep, attend)
            return full_by_rows(self.full_pass, *args, self.together)
        return self.full_pass(tokens, prefix, left, keep, attend)

    def local(
        self, tokens: Tensor, positions: Tensor, prefix: Any, cache: Any, *, left: Tensor
    ) -> Tensor:
        """A pass over some positions: see ``sampling.backbone.Backbone``."""
        if tokens.device.type == "cpu" and self.together:
            args = (tokens, positions, prefix, cache, left)
            return local_by_rows(self.local_pass, *args, self.together, self.layer_count)
        return self.local_pass(tokens, positions, prefix, cache, left)

    def full_pass(
        self, tokens: Tensor, prefix: Any, left: Tensor, keep: bool, attend: Tensor | None
    ) -> Pass:
        """What ``full`` does with rows that run together."""
        raise NotImplementedError

    def local_pass(
        self, tokens: Tensor, positions: Tensor, prefix: Any, cache: Any, left: Tensor
    ) -> Tensor:
        """What ``local`` does with rows that run together."""
        raise NotImplementedError
