import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worlds.editing import GRIDS, Grid
from unmask.editing.sites import area_apart, choose_sites


@pytest.mark.parametrize(
    ("shape", "wanted", "sites"),
    [
        ((16, 32), 1, [(4, 12)]),
        ((8, 32), 3, [(0, 1), (0, 12), (0, 23)]),
        ((16, 16), 4, [(0, 0), (0, 8), (8, 0), (8, 8)]),
        ((12, 20), 6, [(2, 1), (2, 11)]),
        ((16, 32), 5, [(0, 3), (0, 19), (8, 4), (8, 12), (8, 20)]),
        ((8, 8), 3, [(0, 0)]),
    ],
)
def test_sites_are_spread_over_a_picture(
    shape: tuple[int, int], wanted: int, sites: list[tuple[int, int]]
) -> None:
    assert choose_sites(np.ones(shape, bool), (8, 8), wanted) == sites


def test_a_new_thing_stands_beside_what_is_known() -> None:
    masked = np.ones((8, 24), bool)
    masked[:, 8:16] = False
    [(row, column)] = choose_sites(masked, (8, 8), 1)
    assert masked[row : row + 8, column : column + 8].mean() >= 0.75
    assert choose_sites(masked, (8, 8), 2) == [(0, 0), (0, 16)]


@settings(max_examples=200)
@given(st.integers(0, 2**32), GRIDS, st.integers(1, 20))
def test_sites_lie_in_the_picture_and_stand_clear_of_each_other(
    seed: int, grid: Grid, wanted: int
) -> None:
    random = np.random.default_rng(seed)
    shape = [length + int(random.integers(0, 15)) for length in grid]
    masked = random.random(shape) < random.random()
    masked[0, 0] = True
    sites = choose_sites(masked, grid, wanted)
    assert 1 <= len(sites) <= wanted
    taken = np.zeros(shape, np.int64)
    for row, column in sites:
        assert min(row, column) >= 0
        window = taken[row : row + grid[0], column : column + grid[1]]
        assert window.shape == grid
        window += 1
        assert masked[row : row + grid[0], column : column + grid[1]].any()
    assert taken.max() == 1


def test_what_is_apart_is_a_site_without_its_rim() -> None:
    masked = np.ones((20, 30), bool)
    assert area_apart((4, 8), (8, 8), masked) == (slice(5, 11), slice(9, 15))
    assert area_apart((0, 3), (2, 16), masked) == (slice(0, 2), slice(5, 17))
    masked[:, 9:] = False
    assert area_apart((4, 8), (8, 8), masked) == (slice(4, 12), slice(8, 16))


def test_sites_of_a_large_picture_are_chosen_in_no_time() -> None:
    began = time.perf_counter()
    assert len(choose_sites(np.ones((180, 180), bool), (8, 8), 16)) == 16
    assert time.perf_counter() - began < 5  # 0.2 s
