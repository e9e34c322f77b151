import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.sampling.schedules import (
    MASK_SCHEDULES,
    listed_schedule,
    reveal_counts,
    temperatures,
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
    shares = [MASK_SCHEDULES[name].share(i / 100) for i in range(101)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(0, abs=1e-6)
    assert shares == sorted(shares, reverse=True)


def test_cosine_starts_slowly() -> None:
    assert reveal_counts(MASK_SCHEDULES["cosine"], 4, 64) == (5, 14, 21, 24)


@pytest.mark.parametrize(
    ("unknown", "masked"),
    [
        (256, (253, 247, 236, 221, 203, 181, 155, 127, 97, 66, 33, 0)),
        (1024, (1015, 989, 946, 886, 812, 724, 623, 511, 391, 265, 133, 0)),
    ],
)
def test_cosine_counts_as_amused_does(unknown: int, masked: tuple[int, ...]) -> None:
    counts = reveal_counts(MASK_SCHEDULES["cosine"], 12, unknown)
    assert tuple(unknown - sum(counts[: i + 1]) for i in range(12)) == masked


@pytest.mark.parametrize(
    ("unknown", "steps", "first", "last"),
    [
        (256, 32, (5, 5, 5, 5, 5, 5, 5, 6, 5, 5, 6, 5, 6, 5, 6, 6, 6, 6, 6), (11, 14, 17, 41)),
        (256, 12, (13, 14, 14, 14, 15, 15, 16, 17, 20), (22, 28, 68)),
        (576, 32, (11, 11, 12), (30, 39, 92)),
        (4096, 64, (40, 41), (148, 192, 462)),
    ],
)
def test_arccos_counts_as_halton_maskgit_does(
    unknown: int, steps: int, first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    counts = reveal_counts(MASK_SCHEDULES["arccos"], steps, unknown)
    assert counts[: len(first)] == first
    assert counts[-len(last) :] == last


def test_one_step_reveals_all() -> None:
    assert reveal_counts(MASK_SCHEDULES["arccos"], 1, 64) == (64,)


def test_listed_shares_hold_between_their_steps() -> None:
    schedule = listed_schedule((0.8, 0.3, 0.0))
    assert [schedule.share(step / 3) for step in (1, 2, 3)] == [0.8, 0.3, 0.0]
    assert schedule.share(0.5) == 0.3


def test_temperatures_run_inversely_straight_behind_a_warm_start() -> None:
    assert temperatures(0.7, None, 0, 3) == (0.7, 0.7, 0.7)
    assert temperatures(0.0, None, 2, 3) == (0, 0, 0)
    assert temperatures(1.0, None, 1, 3) == (2, 1, 1)
    published = (1.0, 1.05, 1.1, 1.15, 1.2)  # which multiply logits
    for temperature, expected in zip(temperatures(1.0, 1 / 1.2, 0, 5), published, strict=True):
        assert temperature == pytest.approx(1 / expected)
    assert temperatures(1.0, 0.5, 1, 1) == (2.0,)
    assert temperatures(1.0, 4.0, 9, 2) == (2.0, 8.0)
