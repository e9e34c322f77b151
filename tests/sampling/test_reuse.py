"""What is reused, on fixed logits; tests/models/test_native.py has it on a real backbone."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds.sampling import FixedLogits, Options, begin, counts, plan_for, run, states
from unmask.errors import RequestError
from unmask.sampling.backbone import Pass, RowTensors
from unmask.sampling.options import plan_options
from unmask.sampling.schedulers import SCHEDULERS

REMASKING = [
    name
    for name in SCHEDULERS
    if (scheduler := plan_options(scheduler=name).scheduler).remasks and not scheduler.keeps_reveals
]
UNCAGE_REMDM_CONF = {"scheduler": "uncage", "uncage_base": "remdm-conf"}


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


@given(st.integers(2, 16), st.integers(1, 5), st.integers(0, 99), st.sampled_from(REMASKING))
def test_local_steps_of_a_remasking_scheduler_only_reveal(
    steps: int, reuse: int, seed: int, scheduler: str
) -> None:
    plan = plan_for(
        (6, 6), seed, steps=steps, reuse=reuse, reuse_after=0.3, scheduler=scheduler, eta=3.0
    )
    seen = [torch.full((36,), 9), *states(begin(FixedLogits(36, 9), plan))]
    for planned, (before, after) in zip(plan.steps, pairwise(seen), strict=True):
        assert int((after != 9).sum()) == planned.total
        if planned.local:
            kept = before != 9
            assert torch.equal(after[kept], before[kept])


def test_full_steps_between_local_ones_take_back() -> None:
    plan = plan_for((6, 6), steps=12, reuse=1, reuse_after=0.0, scheduler="p2", eta=4.0)
    seen = [torch.full((36,), 9), *states(begin(FixedLogits(36, 9), plan))]
    taken = [
        not planned.local and bool(((before != 9) & (after == 9)).any())
        for planned, (before, after) in zip(plan.steps, pairwise(seen), strict=True)
    ]
    assert sum(taken) > 2


def test_a_scheduler_that_keeps_each_reveal_has_no_local_steps() -> None:
    for options in ({"scheduler": "remdm-conf"}, UNCAGE_REMDM_CONF):
        with pytest.raises(RequestError, match="keeps how sure each reveal was") as caught:
            plan_options(reuse=1, **options)
        assert caught.value.param == "reuse"


def test_revising_has_no_local_steps() -> None:
    with pytest.raises(RequestError, match="reuse cannot be used here: revising"):
        plan_for(scheduler="p2", reuse=1, revise=0.5)


GUIDED = {"guidance_scale": 3.0, "steps": 8, "reuse_policy": "carried-null"}


def _runs(**options: object) -> str:
    """A sign for each step: N runs the null condition, c carries, - is not guided."""
    plan = plan_for(**(GUIDED | options))  # type: ignore[arg-type]
    return "".join("N" if s.null else "c" if s.carries_null else "-" for s in plan.steps)


def test_null_passes_are_carried_to_the_next() -> None:
    assert _runs() == "NcNcNcNc"
    assert _runs(null_every=3) == "NccNccNc"
    assert _runs(null_every=9, null_after=0.5) == "NNNNcccc"
    assert _runs(guidance="interval", guidance_interval=(0.25, 0.7)) == "--NcNc--"
    assert _runs(guidance="linear") == "-NcNcNcN"
    plan = plan_for(null_every=3, null_after=0.5, **GUIDED)  # type: ignore[arg-type]
    assert [step.keeps_null for step in plan.steps] == [False] * 3 + [True] + [False] * 2 + [
        True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("scheduler", ["halton", "p2"])
def test_null_logits_that_never_change_may_be_carried(scheduler: str) -> None:
    backbone = FixedLogits(16, 9)
    options: Options = GUIDED | {"scheduler": scheduler}
    plan = plan_for(**options)
    carried = run(backbone, [plan])
    assert backbone.passes == plan.passes == 8 + 4
    assert torch.equal(carried, run(backbone, [plan_for(**options | {"reuse_policy": "none"})]))


class Drifting(FixedLogits):
    """Its logits depend on what is masked too."""

    def full(self, tokens: torch.Tensor, prefix: RowTensors, /, **asked: Any) -> Pass:
        found = super().full(tokens, prefix, **asked)
        masked = (tokens == self.mask_id).sum(1)
        return found._replace(logits=found.logits.roll(3, -1) * masked[:, None, None] / 16)


def test_what_is_carried_is_what_the_null_condition_said_last() -> None:
    backbone = Drifting(16, 9)
    carried, plain = (
        run(backbone, [plan_for(**GUIDED | {"reuse_policy": policy})])  # type: ignore[arg-type]
        for policy in ("carried-null", "none")
    )
    assert not torch.equal(carried, plain)
    always = plan_for(**GUIDED | {"null_after": 1.0})  # type: ignore[arg-type]
    assert torch.equal(run(backbone, [always]), plain)


def test_rows_that_carry_are_the_same_beside_others() -> None:
    backbone = Drifting(16, 9)
    kinds: list[Options] = [
        GUIDED,
        GUIDED | {"null_every": 3, "scheduler": "p2"},
        {"guidance_scale": 3.0, "steps": 5},
        {"scheduler": "p2", "reuse": 2, "reuse_after": 0.0, "steps": 7, "guidance_scale": 2.0},
        {"steps": 6},
        GUIDED | {"guidance": "interval", "guidance_interval": (0.2, 0.8)},
    ]
    plans = [plan_for(seed=seed, **options) for seed, options in enumerate(kinds * 2)]
    together = run(backbone, plans)
    for plan, tokens in zip(plans, together, strict=True):
        assert torch.equal(run(backbone, [plan])[0], tokens)
