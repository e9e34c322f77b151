import gc
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.worlds.editing import GRIDS, PATCH, Grid, as_image, noise
from tests.worlds.plain_editing import plan_plainly
from unmask.editing import (
    inpaint,
    masked_cells,
    outpaint,
    plan_windows,
    revise,
    window_count,
    windows,
)
from unmask.errors import RequestError


def test_outpainting_grows_out_of_the_picture() -> None:
    edit = outpaint(noise(32, 32), 40, 40, 24, 24)
    masked = masked_cells(edit, PATCH, (8, 8))
    done = ~masked
    for row, column in plan_windows(masked, (8, 8)):
        window = done[row : row + 8, column : column + 8]
        assert window.mean() >= 0.25
        window[:] = True
    assert done.all()


def test_a_hole_that_fits_is_drawn_in_one_window_with_something_all_around_it() -> None:
    masked = np.zeros((20, 30), bool)
    masked[7:11, 12:16] = True
    [(row, column)] = plan_windows(masked, (8, 8))
    assert (row, column) == (5, 10)


def test_a_large_picture_is_planned_in_no_time_and_in_few_windows() -> None:
    corners = plan_windows(np.ones((128, 256), bool), (8, 8))
    assert len(corners) == 31 * 63  # windows that overlap by half
    assert corners[0] == (0, 0)


@settings(max_examples=100)
@given(st.integers(0, 2**32), GRIDS)
def test_windows_hold_every_masked_token_within_the_picture(seed: int, grid: Grid) -> None:
    random = np.random.default_rng(seed)
    masked = random.random((random.integers(5, 20), random.integers(5, 20))) < random.random()
    covered = np.zeros_like(masked)
    for row, column in plan_windows(masked, grid):
        assert min(row, column) >= 0
        window = np.s_[row : row + grid[0], column : column + grid[1]]
        assert covered[window].shape == grid
        assert (masked & ~covered)[window].any(), "nothing is left to draw there"
        covered[window] = True
    assert covered[masked].all()


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@given(grid=st.tuples(st.integers(2, 8), st.integers(2, 8)), more=st.integers(1, 20))
def test_outpainting_always_sees_what_it_goes_on_with(
    side: str, grid: tuple[int, int], more: int
) -> None:
    """By a whole window too: one that held nothing known would draw a scene of its own."""
    image = Image.new("RGB", (grid[1] * PATCH, grid[0] * PATCH))
    masked = masked_cells(outpaint(image, **{side: more * PATCH}), PATCH, grid)
    known = ~masked
    for row, column in plan_windows(masked, grid):
        window = np.s_[row : row + grid[0], column : column + grid[1]]
        assert known[window].any()
        known[window] = True
    assert known.all()


@settings(max_examples=300)
@given(st.integers(0, 2**32), GRIDS)
def test_the_order_is_that_of_the_plain_path(seed: int, grid: Grid) -> None:
    random = np.random.default_rng(seed)
    shape = random.integers(5, 30, 2)
    masked = random.random(shape) < random.random() ** 2
    assert plan_windows(masked, grid) == plan_plainly(masked, grid)


@pytest.mark.parametrize("spaced", [1, 2, 9])
def test_planning_takes_as_long_as_the_picture_is_large(spaced: int) -> None:
    def seconds(side: int) -> float:
        masked = np.zeros((side, side), bool)
        masked[::spaced, ::spaced] = True
        times = []
        for _ in range(3):
            began = time.process_time()
            plan_windows(masked, (8, 8))
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(240) < 32 * seconds(60)  # 16 times the tokens; each with each would be 256 times


def test_the_count_of_windows_is_exact_and_reckoned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    edit = inpaint(noise(100, 80), as_image(np.ones((80, 100), bool)))
    count = window_count(edit, PATCH, (4, 4))
    assert count == len(plan_windows(masked_cells(edit, PATCH, (4, 4)), (4, 4)))
    monkeypatch.setattr(windows, "plan_windows", None)
    assert window_count(edit, PATCH, (4, 4)) == count


def test_a_plan_goes_with_its_edit() -> None:
    edit = revise(noise(20, 20))
    plan = weakref.ref(windows.window_plan(edit, PATCH, (4, 4)))
    del edit
    gc.collect()
    assert plan() is None


def test_a_grid_with_a_time_axis_is_refused() -> None:
    with pytest.raises(RequestError, match=r"\(4, 8, 8\) has 3 axes") as refusal:
        window_count(revise(noise(20, 20)), PATCH, (4, 8, 8))
    assert refusal.value.param == "model"
