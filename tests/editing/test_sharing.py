"""Windows that share what a prompt names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.editing.test_drawing import run_in_any_order
from tests.worlds.editing import (
    PATCH,
    Drawing,
    GreyTokenizer,
    Mask,
    WideTokenizer,
    as_image,
    choose,
    noise,
)
from unmask.editing import Edit, blank, inpaint, outpaint, prepare
from unmask.editing.windows import Sharing, WindowPlan, window_plan
from unmask.errors import RequestError

GRID = (4, 4)
SHARINGS = st.builds(Sharing, st.integers(0, 5), st.booleans(), st.booleans(), st.just(()))


def _mask(seed: int) -> Mask:
    random = np.random.default_rng(seed)
    mask = np.zeros((int(random.integers(8, 60)), int(random.integers(8, 60))), bool)
    for _ in range(int(random.integers(1, 4))):
        top, left = (int(random.integers(length)) for length in mask.shape)
        bottom, right = (int(random.integers(1, 40)) + begin for begin in (top, left))
        mask[top:bottom, left:right] = True
    return mask


def _plan(edit: Edit, sharing: Sharing) -> WindowPlan:
    return window_plan(edit, PATCH, GRID, sharing)


@settings(max_examples=200)
@given(st.integers(0, 2**32), SHARINGS)
def test_every_masked_token_has_a_window_and_every_name_one(seed: int, sharing: Sharing) -> None:
    mask = _mask(seed)
    plan = _plan(inpaint(noise(mask.shape[1], mask.shape[0]), as_image(mask)), sharing)
    assert ((plan.first >= 0) == plan.masked).all()
    names = [name for drawn in plan.names for name in drawn or ()]
    if plan.masked.shape == GRID:
        assert plan.names == (None,) * len(plan.corners)
    elif sharing.together:
        assert sorted(names) == list(range(sharing.names))
    for window, drawn in enumerate(plan.names):
        inner = plan.apart[plan.cells(window)] & (plan.first[plan.cells(window)] == window)
        assert drawn != range(0) or not inner.any(), "what is apart is drawn with a name alone"


@settings(max_examples=100)
@given(st.integers(0, 2**32), SHARINGS, st.integers(0, 9))
def test_the_order_of_finishing_changes_nothing_and_known_pixels_come_back(
    seed: int, sharing: Sharing, order: int
) -> None:
    mask = _mask(seed)
    image = noise(mask.shape[1], mask.shape[0])
    prepared = prepare(inpaint(image, as_image(mask)), WideTokenizer(), GRID, sharing=sharing)
    one, other = (
        run_in_any_order(prepared, np.random.default_rng(number)) for number in (order, order + 1)
    )
    assert one.tobytes() == other.tobytes()
    assert (np.asarray(one)[~mask] == np.asarray(image)[~mask]).all()


def test_windows_of_the_ground_neither_see_nor_draw_what_has_a_name() -> None:
    prepared = prepare(blank(48, 16), GreyTokenizer(), GRID, sharing=Sharing(2, False, True))
    edited, apart = prepared.image(choose), prepared.plan.apart
    assert apart.sum() == 2 * 4, "the middle of each site"
    drawing, windows = Drawing(), edited.start()
    finished = np.zeros((4, 12), bool)
    while windows:
        windows.sort(key=lambda window: window.part)
        window = windows.pop(0)
        _, column = window.corner
        unknown = window.unknown.view(GRID).numpy()
        if window.names == range(0):
            assert unknown[apart[:, column : column + 4]].all()
        else:
            assert unknown.all(), "words tell its ground, so it comes first"
        finished[:, column : column + 4] = True
        windows += edited.finish(window, drawing(window.tokens, window.unknown, window.part))
    assert finished.all()
    assert edited.image is not None


def test_a_site_comes_when_its_rim_is_drawn_if_no_word_tells_the_ground() -> None:
    plan = _plan(blank(64, 16), Sharing(2, False, False))
    first, second = (plan.names.index(range(name, name + 1)) for name in (0, 1))
    [early, late] = sorted((first, second))
    assert early == 0
    rim = plan.first[plan.cells(late)][0]
    assert (rim < late).all()


def test_what_fits_into_a_window_is_drawn_as_ever() -> None:
    mask = np.zeros((40, 60), bool)
    mask[4:12, 4:12] = mask[4:36, 24:60] = True
    edit = inpaint(noise(60, 40), as_image(mask))
    alone, shared = window_plan(edit, PATCH, GRID), _plan(edit, Sharing(2, False, False))
    assert (alone.corners[0], alone.names[0]) == (shared.corners[0], shared.names[0])
    assert shared.names[0] is None
    assert {range(1), range(1, 2), range(0)} <= set(shared.names[1:])
    whole = inpaint(noise(16, 16), as_image(np.ones((16, 16), bool)))
    assert _plan(whole, Sharing(3, False, False)).names == (None,)


def test_the_sides_of_a_picture_share_its_names() -> None:
    edit = outpaint(noise(16, 16), left=16, right=16)
    plan = _plan(edit, Sharing(1, True, True))
    assert [names for names in plan.names if names] == [range(1)]
    assert [names for names in _plan(edit, Sharing(0, True, True)).names if names] == []


def test_windows_of_the_ground_do_not_see_a_known_thing_that_stands_there_whole() -> None:
    edit = outpaint(Image.new("RGB", (16, 16), "red"), right=16)
    sharing = Sharing(0, True, False, things=((3.0, 5.0, 9.0, 16.0),))
    plan = _plan(edit, sharing)
    assert not plan.masked[plan.apart].any()
    assert plan.apart[1:4, 0:3].all()
    assert plan.apart.sum() == 9
    hidden = 0
    edited = prepare(edit, GreyTokenizer(), GRID, sharing=sharing).image(choose)
    windows, drawing = edited.start(), Drawing()
    while windows:
        window = windows.pop()
        hidden += int(window.unknown.view(GRID)[plan.apart[plan.cells(window.part)]].sum())
        windows += edited.finish(window, drawing(window.tokens, window.unknown, window.part))
    assert hidden > 0
    assert edited.image is not None
    assert (
        edited.image.crop((0, 0, 16, 16)).tobytes()
        == edit.pictures()[0].convert("RGB").crop((0, 0, 16, 16)).tobytes()
    )


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, -1), (100_000, 100_000)])
def test_a_blank_has_bounds(width: int, height: int) -> None:
    with pytest.raises(RequestError):
        blank(width, height)
