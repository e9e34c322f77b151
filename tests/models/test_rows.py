from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tests.models.passes import attention_of, memory_of, own_places
from unmask.models.base import narrow
from unmask.models.rows import full_by_rows, local_by_rows
from unmask.sampling.backbone import Pass, RowTensors


@dataclass(frozen=True)
class Numbers(RowTensors):
    """Stands for a prefix or a memory: a number a row."""

    row_axes: ClassVar[tuple[int, ...]] = (0,)

    numbers: Tensor


TOKENS = torch.arange(12.0).view(3, 4)
PREFIX = Numbers(torch.tensor([10.0, 20.0, 30.0]))
LEFT = torch.tensor([1.0, 2.0, 3.0])


def _numbers(rows: RowTensors) -> Tensor:
    return narrow(rows, Numbers).numbers


def _logits(tokens: Tensor, rows: RowTensors) -> Tensor:
    return (tokens + _numbers(rows)[:, None])[..., None]


class Spy:
    """Passes that give the logits of ``_logits`` and note what they were called with."""

    def __init__(self) -> None:
        self.full_passes: list[tuple[int, list[int] | None]] = []  # rows, attention rows
        self.local_passes: list[tuple[int, list[float]]] = []  # positions, steps left

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        assert torch.equal(steps_left, _numbers(prefix) / 10)
        assert remember
        read = None if attention_rows is None else _logits(tokens, prefix)[attention_rows]
        chosen = None if attention_rows is None else attention_rows.tolist()
        self.full_passes.append((len(tokens), chosen))
        return Pass(_logits(tokens, prefix), Numbers(_numbers(prefix) * 2), read)

    def local(
        self,
        tokens: Tensor,
        positions: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        assert torch.equal(steps_left, _numbers(prefix) / 10)
        assert torch.equal(_numbers(prefix), _numbers(memory))
        self.local_passes.append((positions.shape[1], steps_left.tolist()))
        return _logits(tokens, prefix)


def test_rows_of_a_full_pass_keep_what_is_theirs() -> None:
    spy = Spy()
    made = full_by_rows(spy.full, TOKENS, PREFIX, LEFT, True, torch.tensor([2, 0]), 1)
    assert spy.full_passes == [(1, [0]), (1, None), (1, [0])]
    assert torch.equal(made.logits, _logits(TOKENS, PREFIX))
    assert torch.equal(_numbers(memory_of(made)), PREFIX.numbers * 2)
    assert torch.equal(attention_of(made), _logits(TOKENS, PREFIX)[[2, 0]])


def test_what_is_not_asked_for_is_not_there() -> None:
    def full(tokens: Tensor, rows: RowTensors, *_: object) -> Pass:
        return Pass(_logits(tokens, rows))

    made = full_by_rows(full, TOKENS, PREFIX, LEFT, False, None, 1)
    assert made.memory is None
    assert made.attention is None


def test_rows_of_a_local_pass_run_without_their_filling() -> None:
    spy = Spy()
    positions = torch.tensor([[5, 1, 5, 5], [2, 3, 4, 6], [7, 7, 7, 7]])
    tokens = positions.float()
    made = local_by_rows(
        spy.local, tokens, own_places(positions, 2, 4, 1), PREFIX, PREFIX, LEFT, 1, len
    )
    assert spy.local_passes == [(2, [1.0]), (4, [2.0]), (1, [3.0])]
    assert torch.equal(made, _logits(tokens, PREFIX))


def test_no_more_rows_than_may_run_together() -> None:
    spy = Spy()
    made = full_by_rows(spy.full, TOKENS, PREFIX, LEFT, True, torch.tensor([2, 1, 0]), 2)
    assert spy.full_passes == [(2, [0, 1]), (1, [0])]
    assert torch.equal(made.logits, _logits(TOKENS, PREFIX))
    assert torch.equal(_numbers(memory_of(made)), PREFIX.numbers * 2)
    assert torch.equal(attention_of(made), _logits(TOKENS, PREFIX)[[2, 1, 0]])


def test_only_rows_with_as_many_positions_run_a_local_pass_together() -> None:
    spy = Spy()
    positions = torch.tensor([[5, 1, 5, 5], [2, 3, 4, 6], [7, 8, 7, 7], [9, 0, 9, 9], [6, 5, 4, 3]])
    numbers, left = Numbers(torch.arange(10.0, 60, 10)), torch.arange(1.0, 6)
    made = local_by_rows(
        spy.local,
        positions.float(),
        own_places(positions, 2, 4, 2, 2, 4),
        numbers,
        numbers,
        left,
        2,
        len,
    )
    assert spy.local_passes == [(2, [1.0, 3.0]), (2, [4.0]), (4, [2.0, 5.0])]
    assert torch.equal(made, _logits(positions.float(), numbers))


def test_only_rows_whose_layers_run_over_as_many_run_a_local_pass_together() -> None:
    """As on a grid that the layers see compressed: here by two."""
    spy = Spy()

    def pairs(places: Tensor) -> int:
        return len(set((places // 2).tolist()))

    positions = torch.tensor([[0, 1, 0], [0, 2, 0], [3, 2, 3], [6, 5, 3], [7, 0, 7]])
    numbers, left = Numbers(torch.arange(10.0, 60, 10)), torch.arange(1.0, 6)
    made = local_by_rows(
        spy.local,
        positions.float(),
        own_places(positions, 2, 2, 2, 3, 2),
        numbers,
        numbers,
        left,
        4,
        pairs,
    )
    assert spy.local_passes == [(2, [1.0, 3.0]), (2, [2.0, 5.0]), (3, [4.0])]
    assert torch.equal(made, _logits(positions.float(), numbers))
