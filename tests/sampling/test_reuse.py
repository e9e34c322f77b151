"""Local steps on fixed logits; tests/models/test_native.py has them on a real backbone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds.sampling import FixedLogits, begin, counts, plan_for, run, states


@given(st.integers(1, 20), st.integers(0, 99))
def test_no_reuse_is_the_plain_run(steps: int, seed: int) -> None:
    backbone = FixedLogits(16, 9)
    plain = run(backbone, [plan_for(seed=seed, steps=steps, guidance_scale=2.0)])
    off = run(backbone, [plan_for(seed=seed, steps=steps, guidance_scale=2.0, reuse=0)])
    assert torch.equal(plain, off)


@given(st.integers(2, 16), st.integers(1, 5), st.integers(0, 99))
def test_local_steps_reveal_what_the_full_step_chose(steps: int, reuse: int, seed: int) -> None:
    plan = plan_for(seed=seed, steps=steps, reuse=reuse, reuse_after=0.3)
    backbone = FixedLogits(16, 9)
    tokens, targets = torch.full((16,), 9), set()
    batch = begin(backbone, plan)
    (row,) = batch.rows
    for planned, count, after in zip(plan.steps, counts(plan), states(batch), strict=True):
        before, tokens = tokens, after
        new = set((tokens != before).nonzero().flatten().tolist())
        assert len(new) == count
        if planned.group_total:
            assert row.targets is not None
            targets = set(row.targets.tolist())
            assert len(targets) == planned.group_total
        if planned.group_total or planned.local:
            assert new <= targets
    assert row.targets is None
    assert row.memory is None


def test_local_passes_run_on_the_targets_alone() -> None:
    backbone = FixedLogits(16, 9)
    plan = plan_for(steps=8, reuse=1, guidance_scale=3.0)
    run(backbone, [plan])
    assert backbone.passes == 2 * 6
    assert backbone.positions == 2 * sum(step.group_total for step in plan.steps)
    assert plan.passes == backbone.passes + backbone.positions / 16


def test_a_guided_local_step_after_an_unguided_full_one_has_both_memories() -> None:
    # FixedLogits refuses a memory of the wrong condition.
    plan = plan_for(
        steps=4, reuse=1, reuse_after=0.0, guidance="interval",
        guidance_interval=(0.25, 0.5), guidance_scale=3.0,
    )  # fmt: skip
    plain = plan_for(
        steps=4, guidance="interval", guidance_interval=(0.25, 0.5), guidance_scale=3.0
    )
    backbone = FixedLogits(16, 9)
    # With logits that never change only the positions could differ, and Halton fixes those too.
    assert torch.equal(run(backbone, [plan]), run(backbone, [plain]))
