import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worlds.sampling import counts, plan_for, plan_with
from unmask.errors import RequestError
from unmask.sampling.options import choose_options, plan_options
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.schedules import temperatures


@given(st.integers(1, 60), st.integers(0, 16))
def test_the_counts_of_a_plan_are_exact(steps: int, unknown: int) -> None:
    plan = plan_for(steps=steps, unknown=unknown, guidance_scale=2.0)
    assert len(plan.steps) == min(steps, unknown)
    assert sum(counts(plan)) == unknown
    assert all(count >= 1 for count in counts(plan))


def test_only_guided_plans_run_the_null_condition() -> None:
    assert not any(step.null for step in plan_for(guidance_scale=1.0).steps)
    assert all(step.null for step in plan_for(guidance_scale=3.0).steps)


@given(st.integers(1, 20), st.integers(0, 8), st.floats(0, 1), st.integers(1, 16))
def test_groups_of_any_size_reveal_every_token_once(
    steps: int, reuse: int, after: float, unknown: int
) -> None:
    """The published grouping counts some tokens twice when a full step has two local ones."""
    plan = plan_for(steps=steps, reuse=reuse, reuse_after=after, unknown=unknown)
    plain = plan_for(steps=steps, unknown=unknown)
    assert counts(plan) == counts(plain)
    left = 0
    for step, count in zip(plan.steps, counts(plan), strict=True):
        assert step.local == (left > 0)
        left = (left or step.group_total) - count if step.local or step.group_total else 0
    assert left == 0


def test_groups_begin_after_the_steps_that_run_alone() -> None:
    plan = plan_for(steps=8, reuse=1, reuse_after=0.5)
    assert [step.local for step in plan.steps] == [False] * 4 + [False, True] * 2
    assert plan.passes == 6 + (plan.steps[4].group_total + plan.steps[6].group_total) / 16


@pytest.mark.parametrize("off", [{"reuse": 0}, {"reuse_policy": "none"}])
def test_no_reuse_is_the_plain_plan(off: dict[str, object]) -> None:
    assert plan_with({"steps": 8, **off}) == plan_for(steps=8)
    assert plan_for(steps=8, reuse=1) != plan_for(steps=8)


def test_a_full_step_runs_the_null_condition_that_its_local_steps_need() -> None:
    plan = plan_for(
        steps=4, reuse=1, reuse_after=0.0, guidance="interval",
        guidance_interval=(0.25, 0.5), guidance_scale=3.0,
    )  # fmt: skip
    assert [(step.guidance_scale, step.null) for step in plan.steps] == [
        (1, True), (3, True), (1, False), (1, False),
    ]  # fmt: skip


def test_zigzag_undoes_and_redoes_all_steps_but_the_first() -> None:
    assert counts(plan_for(steps=3, zigzag=True, mask_shares=(0.75, 0.5, 0.0))) == [
        4, 4, -4, 4, 8, -8, 8,
    ]  # fmt: skip


def test_listed_shares_are_the_mask_schedule() -> None:
    assert counts(plan_for(mask_shares=(0.75, 0.25, 0.0))) == [4, 8, 4]
    assert counts(plan_for(mask_shares=(1.0, 1.0, 0.0))) == [1, 1, 14]
    assert counts(plan_for(mask_shares=(0.9, 0.5, 0.2, 0.0), unknown=2)) == [1, 1]


def test_revising_keeps_a_share_masked_until_the_end() -> None:
    plan = plan_for(steps=4, scheduler="remdm-rescale", eta=1.0, revise=0.25)
    assert [step.total for step in plan.steps] == [12, 12, 12, 16]


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_only_remasking_schedulers_revise(name: str) -> None:
    if plan_options(scheduler=name).scheduler.remasks:
        assert plan_for(scheduler=name, revise=0.5).steps
    else:
        with pytest.raises(RequestError, match="choose one of: p2, remdm-cap"):
            plan_for(scheduler=name, revise=0.5)


# The method that an option belongs to.
METHODS: dict[str, dict[str, object]] = {
    "choice_temperature": {"scheduler": "confidence"},
    "guidance_interval": {"guidance": "interval"},
    "guidance_power": {"guidance": "power-cosine"},
    "uncage_base": {"scheduler": "uncage"},
    "uncage_blur": {"scheduler": "uncage"},
    "eta": {"scheduler": "p2"},
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 257),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("choice_temperature", math.inf),
        ("guidance_scale", math.nan),
        ("guidance_scale", -math.inf),
        ("guidance_scale", 31),
        ("guidance_interval", (0.5, 0.2)),
        ("guidance_interval", (0.0, math.nan)),
        ("guidance_power", 0.0),
        ("scheduler", "bogus"),
        ("mask_schedule", "bogus"),
        ("guidance", "bogus"),
        ("count_rule", "bogus"),
        ("uncage_base", "bogus"),
        ("mask_shares", ()),
        ("mask_shares", (0.5, 0.6, 0.0)),
        ("mask_shares", (0.5, 0.1)),
        ("mask_shares", (math.nan, 0.0)),
        ("mask_shares", (0.5,) * 256 + (0.0,)),
        ("reuse", -1),
        ("reuse_after", 1.1),
        ("eta", -1.0),
        ("uncage_blur", 17.0),
        ("temperature_last", 0.0),
        ("temperature_last", math.nan),
        ("temperature_warmup", -1),
        ("top_k", -1),
    ],
)
def test_values_out_of_bounds_name_their_field(field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        choose_options({}, {**METHODS.get(field, {}), field: value})
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"scheduler": "remdm-conf", "reuse": 1}, "reuse"),
        ({"reuse_policy": "carried-null", "zigzag": True, "guidance_scale": 2.0}, "zigzag"),
        ({"scheduler": "remdm-cap", "count_rule": "entropy"}, "count_rule"),
        ({"scheduler": "p2", "zigzag": True}, "zigzag"),
        ({"reuse": 1, "zigzag": True}, "zigzag"),
        ({"reuse": 1, "differential": 0.5}, "differential"),
        ({"reuse": 1, "count_rule": "stable"}, "count_rule"),
        ({"count_rule": "stable", "zigzag": True}, "zigzag"),
        ({"scheduler": "uncage", "uncage_base": "uncage"}, "uncage_base"),
        ({"temperature": 0.0, "temperature_last": 1.0}, "temperature"),
    ],
)
def test_methods_that_cannot_live_together_are_refused(
    options: dict[str, object], param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        plan_options(**options)
    assert caught.value.param == param


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_beyond_64_bits_are_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="seed"):
        plan_for(seed=seed)


def test_steps_have_the_temperatures_of_their_plan() -> None:
    plan = plan_for(steps=4, temperature=1.0, temperature_last=0.4, temperature_warmup=2)
    expected = temperatures(1.0, 0.4, 2, 4)
    assert tuple(step.temperature for step in plan.steps) == expected
    assert len(set(expected)) == 4
