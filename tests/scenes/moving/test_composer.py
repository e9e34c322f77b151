from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import ConfigError
from unmask.scenes.moving.composer import MovingComposer
from unmask.scenes.moving.motions import CELLS_A_SLOT, MOTIONS, SPEEDS
from unmask.scenes.moving.truth import ARRANGEMENTS, MOTION_NAMES, MovingConfig, MovingScenes
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import RELATIONS, held_out

BANK = SpriteBank.of_shapes()


def _compose(count: int = 400, index: int = 0, slots: int = 4, **changes: object) -> MovingScenes:
    config = MovingConfig(SceneConfig(64), slots, **changes)  # type: ignore[arg-type]
    return MovingComposer(BANK, config).compose(count, index)


def _paths(scenes: MovingScenes, motion: str) -> torch.Tensor:
    """The boxes (objects, slots + 1, 4) in cells of all that do this."""
    return scenes.boxes[scenes.motion == MOTION_NAMES.index(motion)] * 8


@given(slots=st.integers(1, 6), index=st.integers(0, 99))
def test_objects_stand_on_the_raster_inside_the_picture_at_slot_ends(
    slots: int, index: int
) -> None:
    scenes = _compose(20, index, slots)
    cells = scenes.boxes * 8
    assert torch.equal(cells, cells.round())
    assert cells.min() >= 0
    assert cells.max() <= 8
    present = scenes.motion >= 0
    sides = (cells[..., 2:] - cells[..., :2])[present]
    assert sides.min() >= 3  # the picture tokenizer draws no smaller ones
    assert torch.equal(sides[..., 0], sides[..., 1])


@pytest.mark.parametrize("motion", ["moves left", "moves right", "moves up", "moves down"])
def test_what_moves_goes_its_way_at_its_speed_and_then_rests(motion: str) -> None:
    scenes = _compose(arrangements=(1, 0, 0, 0))
    chosen = scenes.motion == MOTION_NAMES.index(motion)
    steps = (scenes.boxes[chosen] * 8)[:, :, :2].diff(dim=1)
    axis = MOTIONS[motion].axis
    sign = 1 if motion in ("moves right", "moves down") else -1
    assert axis is not None
    assert (steps[..., 1 - axis] == 0).all()
    for way, speed in zip(steps[..., axis].tolist(), scenes.speed[chosen].tolist(), strict=True):
        cells = CELLS_A_SLOT[SPEEDS[speed]] * sign
        moving = [step for step in way if step]
        assert moving == [cells] * len(moving)
        assert way[: len(moving)] == moving
        assert moving


def test_other_motions_do_what_they_are_called() -> None:
    scenes = _compose(1500, arrangements=(1, 0, 0, 0))
    alpha = {name: scenes.alpha[scenes.motion == MOTION_NAMES.index(name)] for name in MOTION_NAMES}
    assert (_paths(scenes, "still").diff(dim=1) == 0).all()
    sides = {
        name: _paths(scenes, name)[..., 2] - _paths(scenes, name)[..., 0]
        for name in ("grows", "shrinks")
    }
    assert ((sides["grows"][:, -1] - sides["grows"][:, 0]) == 2).all()
    assert ((sides["shrinks"][:, -1] - sides["shrinks"][:, 0]) == -2).all()
    assert torch.equal(alpha["fades in"][0], torch.linspace(0, 1, 5))
    assert torch.equal(alpha["fades out"][0], torch.linspace(1, 0, 5))
    for name, ends in (("appears", (0, 1)), ("disappears", (1, 0))):
        assert (alpha[name][:, 0] == ends[0]).all()
        assert (alpha[name][:, -1] == ends[1]).all()
        assert set(alpha[name].flatten().tolist()) == {0.0, 1.0}
    turns = scenes.turns[scenes.motion == MOTION_NAMES.index("spins")]
    assert (turns == torch.arange(5)).all()
    heights = _paths(scenes, "jumps")[..., 1].diff(dim=1)
    assert (heights[:, ::2] < 0).all()
    assert (heights[:, 1::2] > 0).all()
    for path in _paths(scenes, "bounces")[..., :2].diff(dim=1):
        way = path[:, 0] if path[:, 0].any() else path[:, 1]
        signs = [float(step.sign()) for step in way if step]
        assert sum(a != b for a, b in pairwise(signs)) == 1


def test_one_passes_in_front_of_another() -> None:
    scenes = _compose(arrangements=(0, 0, 1, 0))
    behind, front = (scenes.boxes[:, item, :, ::2].mean(-1) for item in (0, 1))
    assert ((front[:, 0] < behind[:, 0]) != (front[:, -1] < behind[:, -1])).all()
    assert (behind.diff(dim=1) == 0).all()
    assert (_compose(200, slots=2).arrangement != ARRANGEMENTS.index("passing")).all()


def test_of_a_pair_one_does_something_and_several_do_the_same() -> None:
    still = MOTION_NAMES.index("still")
    pairs = _compose(arrangements=(0, 1, 0, 0)).motion[:, :2]
    assert ((pairs == still).sum(1) == 1).all()
    many = _compose(arrangements=(0, 0, 0, 1))
    for row in range(100):
        present = many.motion[row] >= 0
        moved = many.boxes[row][present].diff(dim=1)
        assert len(moved) >= 2
        assert (moved == moved[:1]).all()


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    one, other = _compose(30, 5), _compose(30, 5)
    assert torch.equal(one.boxes, other.boxes)
    assert not torch.equal(one.boxes, _compose(30, 6).boxes)


def test_held_out_motions_never_come_up() -> None:
    scenes = _compose(3000)
    met = {
        (BANK.nouns[noun], MOTION_NAMES[motion])
        for noun, motion in zip(
            scenes.still.nouns[scenes.motion >= 0].tolist(),
            scenes.motion[scenes.motion >= 0].tolist(),
            strict=True,
        )
    }
    pairs = [(noun, motion) for noun in BANK.nouns for motion in MOTION_NAMES[1:]]
    assert {pair for pair in pairs if held_out(8, *pair)}.isdisjoint(met)
    assert {pair for pair in pairs if not held_out(8, *pair)} <= met


def test_a_noun_that_is_left_with_nothing_is_told() -> None:
    with pytest.raises(ConfigError, match="left with no colour, direction or partner"):
        MovingComposer(BANK, MovingConfig(SceneConfig(64, held_out_percent=100)))


def test_two_nouns_of_which_one_has_no_partner_are_told() -> None:
    nouns = BANK.nouns
    apart = [
        (noun, other)
        for noun in nouns
        for other in nouns
        if noun < other
        and any(
            held_out(8, *pair)
            for relation in RELATIONS
            for pair in ((noun, relation, other), (other, relation, noun))
        )
    ]
    assert apart
    two = SpriteBank.of_shapes().only(apart[0], ())
    with pytest.raises(ConfigError, match="partner"):
        MovingComposer(two, MovingConfig(SceneConfig(64)))


def test_bounds_of_the_configuration() -> None:
    for changes, said in (
        ({"slots": 0}, "slots: 0"),
        ({"arrangements": (0.0, 0.0, 0.0, 0.0)}, "arrangements: give 4"),
    ):
        with pytest.raises(ValueError, match=said):
            MovingConfig(SceneConfig(64), **changes)
    with pytest.raises(ValueError, match=r"scenes\.size: 20; it must be a multiple of 8"):
        MovingConfig(SceneConfig(20))
