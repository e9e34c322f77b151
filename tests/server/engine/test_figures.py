import threading

import pytest

from unmask.server.engine.figures import FEWEST_STEPS, WARM_UP, Figures, StepTimes


def measured(*steps: tuple[float, float]) -> StepTimes:
    """Work and seconds, over and over."""
    times = StepTimes()
    for _ in range(WARM_UP):
        times.add(1.0, 100.0)
    for _ in range(20):
        for work, seconds in steps:
            times.add(work, seconds)
    return times


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
            figures.waited(1.0)
            figures.drawn(1.0)
            figures.stepped("model", 1.0, 1, 1.0)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        figures.read(ready_workers=1, queued=0, queued_seconds=0.0, running=0, models={})
    ended.set()
    for thread in threads:
        thread.join(10)
