"""What a pipeline asks of a backbone, beside what sampling does (``sampling.backbone``)."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from unmask.devices import sent
from unmask.models.eight_bits import use_eight_bits
from unmask.models.rows import full_by_rows, lengthen, local_by_rows
from unmask.sampling.backbone import Pass, Positions, RowTensors

ConditionKind = Literal["text", "label", "none"]
R = TypeVar("R", bound=RowTensors)


class Condition(NamedTuple):
    """What a picture shall show, as ids: ``ids`` (rows, length) int64, ``mask`` True where not
    padding.
    """

    ids: Tensor
    mask: Tensor

    def on(self, device: torch.device) -> "Condition":
        """The same on a device."""
        return Condition(sent(self.ids, device), sent(self.mask, device))


class ImageBackbone(nn.Module, ABC):
    """The base of all families: tokens of a grid and a condition to logits. On a CPU
    ``rows_per_pass`` run together (``models.rows`` tells why).

    ``mask_id`` is the id of a masked token, ``grid`` the rows and columns of a picture, with the
    frames of a clip before them. ``gives_attention`` tells whether ``full`` can give image-to-text
    attention, ``has_memory`` whether it can leave a memory for ``local`` (ReCAP), ``hint_offsets``
    up to how many frames before the last of a slot a given one may be told by ``hinted``.
    """

    mask_id: int
    codebook_size: int
    grid: tuple[int, ...]
    condition_kind: ConditionKind
    gives_attention: bool
    has_memory: bool
    hint_offsets: int = 0

    @property
    def rows_per_pass(self) -> int | None:
        """How many rows run together on a CPU: no more than leave each other's numbers alone, to
        the bit; None for any number."""
        return 1

    def layer_place_count(self, places: Tensor) -> int:
        """Over how many places the layers run for these (some,) of one row: rows that differ in it
        do not run together."""
        return len(places)

    @abstractmethod
    def use_attention(self, name: str) -> None:
        """Choose the attention backend by name."""

    def use_eight_bits(self) -> None:
        """Multiply whole numbers of eight bits from now on (``models.eight_bits``)."""
        use_eight_bits(self)

    @abstractmethod
    def encode(self, condition: Condition) -> RowTensors:
        """Whatever depends on the condition alone: computed once a request."""

    def hinted(self, prefix: RowTensors, hints: Tensor) -> RowTensors:
        """The prefix with ``hints`` (rows or 1, tokens, 2) for tokens that are masked: the code of
        a given frame there, and how many frames that comes before the one that the token stands
        for; 0 is no hint. Only for a backbone with ``hint_offsets``."""
        raise NotImplementedError(f"{type(self).__name__} takes no hints")

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        /,
        *,
        steps_left: Tensor,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> Pass:
        """A pass over all tokens: see ``sampling.backbone.Backbone``."""
        arguments = (tokens, prefix, steps_left, remember, attention_rows)
        if tokens.device.type == "cpu" and self.rows_per_pass:
            return full_by_rows(self.full_pass, *arguments, self.rows_per_pass)
        return self.full_pass(*arguments)

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
        """A pass over some positions: see ``sampling.backbone.Backbone``."""
        if tokens.device.type != "cpu":
            return self.local_pass(tokens, positions.places, prefix, memory, steps_left)
        if self.rows_per_pass is None:
            positions = lengthen(positions)
        return local_by_rows(
            self.local_pass,
            tokens,
            positions,
            prefix,
            memory,
            steps_left,
            self.rows_per_pass or len(tokens),
            self.layer_place_count,
        )

    @abstractmethod
    def full_pass(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        """What ``full`` does with rows that run together."""

    @abstractmethod
    def local_pass(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """What ``local`` does with rows that run together, at ``places`` (rows, some)."""


def narrow(rows: RowTensors, kind: type[R]) -> R:
    """A prefix or a memory as what its family makes of it."""
    assert isinstance(rows, kind), (
        f"expected {kind.__module__}.{kind.__name__}, got a {type(rows).__name__} of another family"
    )
    return rows
