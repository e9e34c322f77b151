"""What sampling asks of a backbone: two kinds of pass, over rows that it never looks into."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowTensors:
    """Tensors that belong to the rows of a batch, whose meaning only their maker knows.

    A backbone's prefix is one (the encoded conditions), so is its memory (what a full pass leaves
    for local ones), and a scheduler's. A subclass names its tensors as fields and tells in
    ``row_axes`` which axis of each counts the rows.
    """

    row_axes: ClassVar[tuple[int, ...]]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def select(self, rows: Tensor) -> Self:
        """Some rows, in the order of their indices (int64)."""
        pairs = zip(self.tensors, self.row_axes, strict=True)
        return type(self)(*(tensor.index_select(axis, rows) for tensor, axis in pairs))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.tensors for part in parts), strict=True)
        return cls(*(torch.cat(each, axis) for each, axis in zip(columns, cls.row_axes, strict=True)))

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


class Positions(NamedTuple):
    """Which tokens a local pass computes: ``places`` (rows, some) int64, ``counts`` how many of
    each row's are its own. The rest repeat its first place, so that all rows are equally long."""

    places: Tensor
    counts: tuple[int, ...]

    def select(self, rows: Sequence[int]) -> "Positions":
        """Those of some rows."""
        return Positions(self.places[list(rows)], tuple(self.counts[row] for row in rows))


class Pass(NamedTuple):
    """A full pass: ``logits`` (rows, tokens, codebook), and what was asked for besides.

    ``attention`` is (rows, tokens, text positions), the mean over layers and heads.
    """

    logits: Tensor
    memory: RowTensors | None = None
    attention: Tensor | None = None


class Backbone(Protocol):
    """Tokens (rows, tokens) and their prefixes to logits (rows, tokens, codebook)."""

    @property
    def mask_id(self) -> int: ...

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
        """A pass over all tokens. ``steps_left`` (rows,) int64 counts the steps of each row's plan
        that come after this one, ``remember`` asks for the memory, ``attention_rows`` for the
        attention of the rows that it lists (its rows are theirs)."""
        ...

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
        """Logits (rows, some, codebook) of the ``tokens`` (rows, some) at the positions, which see
        each other afresh and all other tokens as ``memory`` holds them."""
        ...
