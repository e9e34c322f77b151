import threading

import pytest

from unmask.server.engine.figures import FEWEST_STEPS, WARM_UP, Figures, Stats, StepTimes
from unmask.server.engine.spreads import Spread


def measured(*steps: tuple[float, float]) -> StepTimes:
    """Work and seconds, over and over."""
    times = StepTimes()
    for _ in range(WARM_UP):
        times.add(1.0, 100.0)
    for _ in range(20):
        for work, seconds in steps:
            times.add(work, seconds)
    return times


def read(figures: Figures) -> Stats:
    return figures.read(
        ready_workers=1,
        queued=0,
        queued_seconds=0.0,
        running=0,
        models={},
        loads={},
        names={"model": "name"},
    )


def test_nothing_is_known_of_the_first_steps_which_are_slow() -> None:
    times = StepTimes()
    for _ in range(WARM_UP + FEWEST_STEPS - 1):
        times.add(1.0, 100.0)
    assert not times.measured
    assert times.step_seconds(1.0) == times.seconds(1.0) == 0.0


def test_with_steps_of_one_size_a_larger_one_is_not_said_to_take_longer() -> None:
    times = measured((100.0, 0.5))
    assert times.step_seconds(100.0) == pytest.approx(0.5)
    assert times.step_seconds(1600.0) == pytest.approx(0.5)
    assert times.seconds(1600.0) == pytest.approx(8.0)


def test_steps_of_several_sizes_tell_what_others_take() -> None:
    times = measured((100.0, 0.2), (300.0, 0.4), (500.0, 0.6))
    assert times.step_seconds(900.0) == pytest.approx(1.0)
    assert times.step_seconds(0.0) == pytest.approx(0.1)


def test_larger_steps_are_never_said_to_take_less() -> None:
    times = measured((100.0, 0.6), (500.0, 0.2))
    assert times.step_seconds(5000.0) == pytest.approx(0.4, rel=0.02)


def test_figures_may_be_read_while_workers_write_them() -> None:
    figures, ended = Figures(), threading.Event()

    def write() -> None:
        while not ended.is_set():
            figures.spent("queue", "model", 1.0)
            figures.drawn(1.0)
            figures.stepped("model", 1.0, 1, 1.0)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        read(figures)
    ended.set()
    for thread in threads:
        thread.join(10)


def test_what_was_spent_is_told_by_the_name_of_the_model() -> None:
    figures = Figures()
    figures.spent("queue", "model", 0.3)
    figures.stepped("model", 0.2, rows=3, work=1.0)
    stats = read(figures)
    assert list(stats.stages) == [("queue", "name")]
    assert stats.wait.p50 == 0.3
    assert (stats.step_rows["name"].count, stats.step_rows["name"].total) == (1, 3)
    figures.stepped("model", 0.2, rows=3, work=1.0)
    assert stats.step_seconds["name"].count == 1  # it is of when it was read


def test_a_value_on_a_bound_is_below_it() -> None:
    spread = Spread((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        spread.add(value)
    assert (spread.counts, spread.count, spread.total) == ([2, 1, 1], 4, 12.0)
