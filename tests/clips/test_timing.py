import pytest

from unmask.clips.timing import arrange, instants


def test_frames_of_one_rate_are_all_seen_once() -> None:
    assert arrange([0, 0.125, 0.25], 0.375, None) == (8.0, [0, 1, 2])
    rate, picks = arrange([number / 120 for number in range(240)], 2.0, None)
    assert (rate, picks) == (120.0, list(range(240)))


@pytest.mark.parametrize("unit", [0.001, 0.01])
@pytest.mark.parametrize("rate", [8.0, 12.5, 24.0, 30.0])
def test_times_that_were_rounded_keep_their_rate(unit: float, rate: float) -> None:
    times = [round(number / rate / unit) * unit for number in range(41)]
    found, picks = arrange(times[:-1], times[-1], None)
    assert found == pytest.approx(rate, rel=0.002)
    assert picks == [*range(40)]
    assert arrange(times[:-1], times[-1], rate) == (rate, [*range(40)])


def test_a_frame_that_is_held_is_seen_as_often_as_it_is_shown() -> None:
    assert arrange([0, 0.125, 0.5], 0.75, None) == (8.0, [0, 1, 1, 1, 2, 2])
    gif = [0, 0.12, 0.25, 0.5]  # hundredths of a second
    rate, picks = arrange(gif, 0.62, None)
    assert rate == pytest.approx(8.0, rel=0.01)
    assert picks == [0, 1, 2, 2, 3]


def test_one_frame_has_the_rate_of_its_duration() -> None:
    assert arrange([0], 2.5, None) == (0.4, [0])
    assert arrange([0], 2.5, 2.0) == (2.0, [0, 0, 0, 0, 0])


def test_frames_without_a_rhythm_are_taken_at_the_rate_of_the_shortest() -> None:
    starts, end = [0, 0.1, 0.37, 0.52], 0.73
    rate, picks = arrange(starts, end, None)
    assert rate == 10.0
    assert picks == [0, 1, 1, 1, 2, 2, 3, 3]
    rate, picks = arrange([0, 0.001, 0.3, 0.9], 1.0, None)
    assert (rate, len(picks), set(picks)) == (60.0, 60, {0, 1, 2, 3} - {0})


@pytest.mark.parametrize("wanted", [4.0, 6.0, 8.0, 24.0, 25.0])
def test_a_wanted_rate_keeps_the_duration(wanted: float) -> None:
    starts = [number / 12 for number in range(24)]
    rate, picks = arrange(starts, 2.0, wanted)
    assert rate == wanted
    assert len(picks) == 2 * wanted
    for place, pick in enumerate(picks):
        assert starts[pick] - 0.011 <= place / wanted < starts[pick] + 1 / 12


def test_frames_that_no_instant_meets_can_be_left_out_before() -> None:
    starts, end, rate = [number / 30 for number in range(60)], 2.0, 8.0
    stops = [*starts[1:], end]
    kept = [a for a, b in zip(starts, stops, strict=True) if instants(a, b, rate)]
    assert len(kept) == 16
    seen = [starts[pick] for pick in arrange(starts, end, rate)[1]]
    assert [kept[pick] for pick in arrange(kept, end, rate)[1]] == seen
