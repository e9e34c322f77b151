import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.worlds.sampling import FixedLogits, RowNumbers, plan_for, run
from unmask.sampling.backbone import Pass, RowTensors
from unmask.sampling.padding import Padded
from unmask.sampling.plan import Plan

SUBJECTS = (((1,), (2, 3)), ((4,), (5,)))


@given(st.integers(1, 7))
def test_padded_batches_draw_the_same(rows: int) -> None:
    plans = [
        plan_for(seed=1, steps=5, guidance_scale=2.0),
        plan_for(seed=2, steps=9, reuse=2, reuse_after=0.0),
        plan_for(seed=3, scheduler="uncage", subjects=SUBJECTS),
        plan_for(seed=4, steps=3, guidance_scale=3.0),
        plan_for(seed=5, scheduler="p2"),
        plan_for(seed=6, steps=6, reuse=1),
        plan_for(seed=7, steps=16),
    ][:rows]
    plain, inner = FixedLogits(16, 9), FixedLogits(16, 9)
    padded = Padded(inner)
    assert torch.equal(run(padded, plans), run(plain, plans))
    assert padded.computed == padded.padding + plain.passes + _local_rows(plans)


def test_padded_local_passes_draw_the_same() -> None:
    """Rows of one length, three at a time, so that a fourth fills up every local pass."""
    plans = [plan_for(seed=seed, steps=8, reuse=1, reuse_after=0.0) for seed in range(3)]
    plain, inner = FixedLogits(16, 9), FixedLogits(16, 9)
    padded = Padded(inner)
    assert torch.equal(run(padded, plans), run(plain, plans))
    assert plain.positions > 0
    assert inner.positions * 3 == plain.positions * 4


def _local_rows(plans: list[Plan]) -> int:
    return sum(step.local * (1 + step.null) for plan in plans for step in plan.steps)


def test_only_powers_of_two_are_seen() -> None:
    seen: list[int] = []

    class Noting(FixedLogits):
        def full(
            self,
            tokens: Tensor,
            prefix: RowTensors,
            /,
            *,
            steps_left: Tensor | None = None,
            remember: bool = False,
            attention_rows: Tensor | None = None,
        ) -> Pass:
            seen.append(len(tokens))
            assert steps_left is not None
            assert len(steps_left) == len(tokens)
            return super().full(tokens, prefix, remember=remember, attention_rows=attention_rows)

    backbone = Padded(Noting(4, 3))
    for rows in range(1, 10):
        prefix = RowNumbers(torch.zeros(rows, dtype=torch.long))
        found = backbone.full(
            torch.zeros(rows, 4, dtype=torch.long),
            prefix,
            steps_left=torch.arange(rows),
            remember=True,
            attention_rows=None,
        )
        assert isinstance(found.memory, RowNumbers)
        assert len(found.logits) == len(found.memory.rows) == rows
    assert seen == [1, 2, 4, 4, 8, 8, 8, 8, 16]
