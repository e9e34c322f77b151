import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import RequestError
from unmask.sampling.schedules import (
    GUIDANCE_SCHEDULES,
    MASK_SCHEDULES,
    annealed,
    guidance_scales,
    guidance_schedule,
    mask_schedule,
    reveal_counts,
)

schedules = st.sampled_from(sorted(MASK_SCHEDULES))


@given(schedules, st.integers(1, 300), st.integers(0, 5000))
def test_counts_reveal_every_unknown_token_exactly_once(
    name: str, steps: int, unknown: int
) -> None:
    counts = reveal_counts(MASK_SCHEDULES[name], steps, unknown)
    assert sum(counts) == unknown
    assert len(counts) == min(steps, unknown)
    assert all(count >= 1 for count in counts)


@given(schedules)
def test_mask_schedules_fall_from_all_to_nothing(name: str) -> None:
    shares = [MASK_SCHEDULES[name](i / 100) for i in range(101)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(0, abs=1e-9)
    assert shares == sorted(shares, reverse=True)


def test_cosine_starts_slowly() -> None:
    assert reveal_counts(MASK_SCHEDULES["cosine"], 4, 64) == (5, 14, 21, 24)


def test_one_step_reveals_all() -> None:
    assert reveal_counts(MASK_SCHEDULES["arccos"], 1, 64) == (64,)


def test_constant_guidance_stays() -> None:
    assert guidance_scales(GUIDANCE_SCHEDULES["constant"], 3, (0, 1), 4.0) == (4, 4, 4)


def test_linear_guidance_rises_from_off() -> None:
    assert guidance_scales(GUIDANCE_SCHEDULES["linear"], 4, (0, 1), 5.0) == (1, 2, 3, 4)


def test_interval_guidance_is_off_outside() -> None:
    assert guidance_scales(GUIDANCE_SCHEDULES["interval"], 4, (0.25, 0.75), 3.0) == (1, 3, 3, 1)


def test_annealing_ends_at_zero() -> None:
    assert annealed(4.0, 4) == (3, 2, 1, 0)


@pytest.mark.parametrize("find", [mask_schedule, guidance_schedule])
def test_unknown_names_list_the_choices(find: object) -> None:
    assert callable(find)
    with pytest.raises(RequestError, match="choose one of"):
        find("bogus")
