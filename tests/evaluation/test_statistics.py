import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.evaluation.statistics import score_interval

SHARES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=30)


@given(SHARES, SHARES)
def test_categories_weigh_alike_however_many_prompts_they_have(
    first: list[float], second: list[float]
) -> None:
    categories = ["a"] * len(first) + ["b"] * len(second)
    interval = score_interval(first + second, categories)
    assert interval.mean == pytest.approx((np.mean(first) + np.mean(second)) / 2)
    assert interval.low <= interval.mean + 1e-9
    assert interval.mean <= interval.high + 1e-9


def test_prompts_that_agree_leave_no_doubt() -> None:
    assert score_interval([0.5] * 9, ["a"] * 9) == (0.5, 0.5, 0.5)


def test_the_interval_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).random(400)
    interval = score_interval(values.tolist(), ["a"] * 400)
    error = values.std() / 20
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    random = np.random.default_rng(0)
    hard = random.random(100)
    ours, theirs = hard + 0.1, hard + 0.05 * random.random(100)
    gap = score_interval((ours - theirs).tolist(), ["a"] * 100)
    alone = score_interval(ours.tolist(), ["a"] * 100)
    assert gap.low > 0
    assert gap.high - gap.low < (alone.high - alone.low) / 4


def test_a_score_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="one prompt"):
        score_interval([], [])
