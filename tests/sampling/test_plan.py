import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sampling.worlds import plan
from unmask.errors import RequestError
from unmask.sampling.plan import PlanOptions


@given(st.integers(1, 60), st.integers(0, 16))
def test_a_plan_has_one_number_a_step_for_everything(steps: int, unknown: int) -> None:
    made = plan(steps=steps, unknown=unknown, guidance_scale=2.0)
    lengths = {len(made.temperatures), len(made.choice_temperatures), len(made.guidance_scales)}
    assert lengths == {made.steps} == {min(steps, unknown)}
    assert sum(made.counts) == unknown


def test_only_guided_plans_need_a_null_condition() -> None:
    assert not plan(guidance_scale=1.0).guided
    assert plan(guidance_scale=3.0).guided


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
        ("scheduler", "bogus"),
        ("mask_schedule", "bogus"),
        ("guidance", "bogus"),
    ],
)
def test_values_out_of_bounds_name_their_field(field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        PlanOptions(**{field: value})  # type: ignore[arg-type]
    assert caught.value.param == field


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_beyond_64_bits_are_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="seed"):
        plan(seed=seed)
