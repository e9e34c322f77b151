from typing import NamedTuple

import torch
from torch import Tensor

from unmask.models.rows import full_by_rows, local_by_rows
from unmask.sampling.backbone import Pass


class Own(NamedTuple):
    """Stands for a prefix or a cache: a number a row."""

    numbers: Tensor

    def select(self, rows: Tensor) -> "Own":
        return Own(self.numbers[rows])

    @classmethod
    def join(cls, parts: list["Own"]) -> "Own":
        return cls(torch.cat([part.numbers for part in parts]))


TOKENS = torch.arange(12.0).view(3, 4)
PREFIX = Own(torch.tensor([10.0, 20.0, 30.0]))
LEFT = torch.tensor([1.0, 2.0, 3.0])


def _logits(tokens: Tensor, own: Own) -> Tensor:
    return (tokens + own.numbers[:, None])[..., None]


def test_rows_of_a_full_pass_keep_what_is_theirs() -> None:
    seen = []

    def full(tokens: Tensor, prefix: Own, left: Tensor, keep: bool, attend: Tensor | None) -> Pass:
        assert torch.equal(left, prefix.numbers / 10)
        assert keep
        seen.append((len(tokens), attend is not None))
        read = None if attend is None else _logits(tokens, prefix)[attend]
        return Pass(_logits(tokens, prefix), Own(prefix.numbers * 2), read)

    made = full_by_rows(full, TOKENS, PREFIX, LEFT, True, torch.tensor([2, 0]), 1)
    assert seen == [(1, True), (1, False), (1, True)]
    assert torch.equal(made.logits, _logits(TOKENS, PREFIX))
    assert torch.equal(made.cache.numbers, PREFIX.numbers * 2)
    assert torch.equal(made.attention, _logits(TOKENS, PREFIX)[[2, 0]])


def test_what_is_not_asked_for_is_not_there() -> None:
    def full(tokens: Tensor, own: Own, *_: object) -> Pass:
        return Pass(_logits(tokens, own))

    made = full_by_rows(full, TOKENS, PREFIX, LEFT, False, None, 1)
    assert made.cache is None
    assert made.attention is None


def test_rows_of_a_local_pass_run_without_their_filling() -> None:
    lengths = []

    def local(tokens: Tensor, positions: Tensor, prefix: Own, cache: Own, left: Tensor) -> Tensor:
        assert torch.equal(left, prefix.numbers / 10)
        assert torch.equal(prefix.numbers, cache.numbers)
        lengths.append(positions.shape[1])
        return _logits(tokens, prefix)

    positions = torch.tensor([[5, 1, 5, 5], [2, 3, 4, 6], [7, 7, 7, 7]])
    tokens = positions.float()
    made = local_by_rows(local, tokens, positions, PREFIX, PREFIX, LEFT, 1, len)
    assert lengths == [2, 4, 1]
    assert torch.equal(made, _logits(tokens, PREFIX))


def test_no_more_rows_than_may_run_together() -> None:
    seen = []

    def full(tokens: Tensor, prefix: Own, left: Tensor, keep: bool, attend: Tensor | None) -> Pass:
        seen.append((len(tokens), None if attend is None else attend.tolist()))
        read = None if attend is None else _logits(tokens, prefix)[attend]
        return Pass(_logits(tokens, prefix), Own(prefix.numbers * 2), read)

    made = full_by_rows(full, TOKENS, PREFIX, LEFT, True, torch.tensor([2, 1, 0]), 2)
    assert seen == [(2, [0, 1]), (1, [0])]
    assert torch.equal(made.logits, _logits(TOKENS, PREFIX))
    assert torch.equal(made.cache.numbers, PREFIX.numbers * 2)
    assert torch.equal(made.attention, _logits(TOKENS, PREFIX)[[2, 1, 0]])


def test_only_rows_with_as_many_positions_run_a_local_pass_together() -> None:
    seen = []

    def local(tokens: Tensor, positions: Tensor, prefix: Own, cache: Own, left: Tensor) -> Tensor:
        assert torch.equal(left, prefix.numbers / 10)
        assert torch.equal(prefix.numbers, cache.numbers)
        seen.append((positions.shape[1], left.tolist()))
        return _logits(tokens, prefix)

    positions = torch.tensor([[5, 1, 5, 5], [2, 3, 4, 6], [7, 8, 7, 7], [9, 0, 9, 9], [6, 5, 4, 3]])
    own, left = Own(torch.arange(10.0, 60, 10)), torch.arange(1.0, 6)
    made = local_by_rows(local, positions.float(), positions, own, own, left, 2, len)
    assert seen == [(2, [1.0, 3.0]), (2, [4.0]), (4, [2.0, 5.0])]
    assert torch.equal(made, _logits(positions.float(), own))


def test_only_rows_whose_layers_run_over_as_many_run_a_local_pass_together() -> None:
    """As on a grid that the layers see compressed: here by two."""
    seen = []

    def local(tokens: Tensor, positions: Tensor, prefix: Own, cache: Own, left: Tensor) -> Tensor:
        seen.append((positions.shape[1], left.tolist()))
        return _logits(tokens, prefix)

    def pairs(places: Tensor) -> int:
        return len((places // 2).unique())

    positions = torch.tensor([[0, 1, 0], [0, 2, 0], [3, 2, 3], [6, 5, 3], [7, 0, 7]])
    own, left = Own(torch.arange(10.0, 60, 10)), torch.arange(1.0, 6)
    made = local_by_rows(local, positions.float(), positions, own, own, left, 4, pairs)
    assert seen == [(2, [1.0, 3.0]), (2, [2.0, 5.0]), (3, [4.0])]
    assert torch.equal(made, _logits(positions.float(), own))
