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
        """The fields, in their order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def select(self, rows: Tensor) -> Self:
        """Some rows, in the order of their indices (int64)."""
        pairs = zip(self.tensors, self.row_axes, strict=True)
        return type(self)(*(tensor.index_select(axis, rows) for tensor, axis in pairs))

    def to(self, device: torch.device) -> Self:
        """The same rows on a device."""
        return type(self)(*(tensor.to(device) for tensor in self.tensors))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        fields_of_parts = zip(*(part.tensors for part in parts), strict=True)
        pairs = zip(fields_of_parts, cls.row_axes, strict=True)
        return cls(*(torch.cat(tensors, axis) for tensors, axis in pairs))

    @property
    def row_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of one row's tensors: only rows that agree in them can be joined."""
        pairs = zip(self.tensors, self.row_axes, strict=True)
        return tuple((*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor, axis in pairs)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.nbytes for tensor in self.tensors)


class Positions(NamedTuple):
    """Which tokens a local pass computes: ``places`` (rows, some) int64, ``counts`` how many of
    each row's are its own. The rest repeat its first place, so that all rows are equally long."""

    places: Tensor
    counts: tuple[int, ...]


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
    def mask_id(self) -> int:
        """The token that stands for a masked one."""
        ...

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


@dataclass(frozen=True)
class Pair:
    """The encoded conditions of some rows, and after them as many null conditions: the two that
    guidance runs. Prefixes come in pairs."""

    both: RowTensors
    rows: int

    @classmethod
    def of(cls, both: RowTensors) -> "Pair":
        """The pair that holds its conditions in the first half and its nulls in the second."""
        rows = both.tensors[0].shape[both.row_axes[0]]
        assert rows % 2 == 0, "there is a null condition for each condition"
        return cls(both, rows // 2)

    def select(self, rows: Tensor) -> "Pair":
        """The pairs of some rows, in the order of their indices (int64)."""
        return Pair(self.both.select(torch.cat([rows, rows + self.rows])), len(rows))

    @classmethod
    def join(cls, pairs: Sequence["Pair"]) -> "Pair":
        """The pairs of all rows, in their order."""
        if len(pairs) == 1:
            return pairs[0]
        both = type(pairs[0].both).join([pair.both for pair in pairs])
        conditions: list[int] = []
        nulls: list[int] = []
        first = 0
        for pair in pairs:
            conditions += range(first, first + pair.rows)
            nulls += range(first + pair.rows, first + 2 * pair.rows)
            first += 2 * pair.rows
        order = torch.tensor(conditions + nulls, device=both.tensors[0].device)
        return cls(both.select(order), len(conditions))

    def running(self, guided: Tensor | None) -> RowTensors:
        """What a pass reads: every condition, then the nulls of the rows ``guided`` (int64); None
        stands for all rows."""
        if guided is None:
            return self.both
        every = torch.arange(self.rows, device=guided.device)
        return self.both.select(torch.cat([every, guided + self.rows]))
