from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unmask.errors import ConfigError
from unmask.training.scenes import (
    BACKGROUNDS,
    COLOUR_NAMES,
    COLOURS,
    KINDS,
    MORE_COLOURS,
    PLACES,
    RELATIONS,
    SceneConfig,
    SceneRenderer,
    Scenes,
    held_out,
)
from unmask.training.sprites import SHAPES, SpriteBank

BANK = SpriteBank.of_shapes()


def _make_renderer(size: int = 32, **changes: object) -> SceneRenderer:
    return SceneRenderer(BANK, SceneConfig(size, **changes))  # type: ignore[arg-type]


def _red_on_white(scenes: Scenes) -> Scenes:
    """The same scenes with one thing each, all red, on plain white."""
    alone = torch.full_like(scenes.sprites[:, 1:], -1)
    return replace(
        scenes,
        background=torch.zeros_like(scenes.background),
        painting=torch.zeros_like(scenes.painting),
        sprites=torch.cat([scenes.sprites[:, :1], alone], 1),
        colours=torch.zeros_like(scenes.colours),
    )


def _bounds(image: Tensor) -> Tensor:
    """Left, top, right and bottom of what differs from the corner colour."""
    painted = (image - torch.tensor(BACKGROUNDS["white"]).view(3, 1, 1) / 255).abs().amax(0) > 0.02
    rows, columns = painted.any(1).nonzero(), painted.any(0).nonzero()
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_the_same_seed_and_index_give_the_same_bytes() -> None:
    first, second = _make_renderer().draw(16, 3), _make_renderer().draw(16, 3)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, vars(second[1])[name]) for name, a in vars(first[1]).items())


@pytest.mark.parametrize(("seed", "index"), [(0, 4), (1, 3)])
def test_another_seed_or_index_gives_other_pictures(seed: int, index: int) -> None:
    images, _ = _make_renderer().draw(16, 3)
    others, _ = _make_renderer(seed=seed).draw(16, index)
    assert (images != others).flatten(1).any(1).all()


@pytest.mark.parametrize("size", [8, 16, 64, 200])
def test_pictures_have_their_size_and_range(size: int) -> None:
    images, _ = _make_renderer(size, painted=0.5).draw(8, 0)
    assert images.shape == (8, 3, size, size)
    assert images.dtype == torch.float32
    assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize("size", [32, 64, 256])
def test_the_box_holds_all_of_the_object_and_nothing_lies_outside(size: int) -> None:
    renderer = _make_renderer(size)
    scenes = _red_on_white(renderer.imagine(24, 0))
    for image, box in zip(renderer.render(scenes), scenes.boxes[:, 0] * size, strict=True):
        # Edges are smooth, so they may be off by the one pixel they share with the background.
        assert (_bounds(image) - box).abs().max() <= 1.5


def test_objects_take_their_colour_and_the_background_its_own() -> None:
    renderer = _make_renderer(64)
    square = BANK.nouns.index("square")
    for number, colour in enumerate(COLOURS.values()):
        scenes = _red_on_white(renderer.imagine(4, 1))
        scenes = replace(scenes, colours=scenes.colours + number)
        scenes.sprites[:, 0] = (BANK.noun_of == square).nonzero()[0, 0]
        centres = ((scenes.boxes[:, 0, :2] + scenes.boxes[:, 0, 2:]) * 32).long()
        for image, (x, y) in zip(renderer.render(scenes), centres.tolist(), strict=True):
            assert (image[:, y, x] * 255 - torch.tensor(colour)).abs().max() < 4
            assert (image[:, 0, 0] * 255 - 250).abs().max() < 1


def test_a_natural_object_keeps_the_colours_of_its_sprite() -> None:
    renderer = _make_renderer(64)
    scenes = _red_on_white(renderer.imagine(1, 1))
    scenes = replace(scenes, colours=scenes.colours - 1)
    scenes.sprites[:, 0] = (BANK.noun_of == BANK.nouns.index("square")).nonzero()[0, 0]
    x, y = ((scenes.boxes[0, 0, :2] + scenes.boxes[0, 0, 2:]) * 32).long().tolist()
    drawn = renderer.render(scenes)[0, :, y, x] * 255
    assert (drawn - torch.tensor([210, 60, 60])).abs().max() < 3


def test_as_many_objects_are_drawn_as_the_truth_says() -> None:
    renderer = _make_renderer(64, kinds=(0, 1, 0), most=4)
    scenes = renderer.imagine(200, 0)
    present = (scenes.nouns >= 0).sum(1)
    assert set(present.tolist()) == {2, 3, 4}
    areas = []
    for number in (2, 3, 4):
        row = int((present == number).nonzero()[0])
        kept = replace(scenes, background=scenes.background * 0, colours=scenes.colours * 0)
        kept.sprites[row, :number] = (BANK.noun_of == BANK.nouns.index("square")).nonzero()[0, 0]
        image = renderer.render(kept)[row]
        painted = (image[1] < 0.6).float().mean()
        boxes = scenes.boxes[row, :number]
        areas.append(float(painted / (boxes[:, 2:] - boxes[:, :2]).prod(-1).sum()))
    assert areas == pytest.approx([1, 1, 1], abs=0.12)


def test_objects_of_one_kind_look_alike_and_do_not_overlap() -> None:
    scenes = _make_renderer(kinds=(0, 1, 0), most=4).imagine(300, 0)
    for row in range(300):
        present = scenes.nouns[row] >= 0
        for truth in (scenes.nouns, scenes.colours, scenes.sprites):
            assert len(truth[row][present].unique()) == 1
        boxes = scenes.boxes[row][present]
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                overlap = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
                assert overlap.min() <= 0.1  # corners of neighbours may touch, no more


def test_boxes_hold_the_relation_and_the_place_that_the_truth_names() -> None:
    scenes = _make_renderer(most=2).imagine(2000, 0)
    centres = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]) / 2
    for number in range(len(RELATIONS)):
        chosen = scenes.relation == number
        first, second = centres[chosen, 0], centres[chosen, 1]
        assert len(first) > 100
        assert (first[:, number] + 0.2 < second[:, number]).all()
        assert ((first - second)[:, 1 - number].abs() < 0.15).all()
    for number, (axis, side) in enumerate([(0, 0), (0, -1), (0, 1), (1, -1), (1, 1)]):
        found = centres[scenes.place == number, 0]
        assert len(found) > 50
        assert ((found[:, axis] - 0.5).sign() == side).all() or side == 0
        assert (found[:, 1 - axis] - 0.5).abs().max() < 0.1
    assert len(PLACES) == 5


def test_boxes_lie_within_the_picture() -> None:
    boxes = _make_renderer(most=4).imagine(2000, 0).boxes
    assert boxes.min() >= 0
    assert boxes.max() <= 1


def test_held_out_pairs_are_never_drawn() -> None:
    renderer = _make_renderer(held_out_percent=25, natural=0.1)
    colours = {(c, n) for c in COLOURS for n in BANK.nouns if held_out(25, c, n)}
    pairs = {(a, r, b) for a in SHAPES for r in RELATIONS for b in SHAPES if held_out(25, a, r, b)}
    assert colours
    assert pairs
    seen_colours, seen_pairs = set(), set()
    for index in range(8):
        scenes = renderer.imagine(1000, index)
        for row in range(1000):
            nouns = [BANK.nouns[noun] for noun in scenes.nouns[row] if noun >= 0]
            for noun, colour in zip(nouns, scenes.colours[row].tolist(), strict=False):
                if colour >= 0:
                    seen_colours.add((list(COLOURS)[colour], noun))
            if scenes.relation[row] >= 0:
                seen_pairs.add((nouns[0], RELATIONS[int(scenes.relation[row])], nouns[1]))
    # Everything is drawn but what is held out, so the split has no other holes.
    assert seen_colours == {(c, n) for c in COLOURS for n in BANK.nouns} - colours
    everything = {(a, r, b) for a in SHAPES for r in RELATIONS for b in SHAPES if a != b}
    assert seen_pairs == everything - pairs


def test_more_colours_are_drawn_as_often_as_asked_and_held_out_too() -> None:
    renderer = _make_renderer(held_out_percent=25, natural=0.0, more_colours=0.3)
    seen = []
    for index in range(8):
        scenes = renderer.imagine(1000, index)
        rows = (scenes.nouns[:, 0] >= 0).nonzero().flatten()
        drawn = zip(scenes.colours[rows, 0].tolist(), scenes.nouns[rows, 0].tolist(), strict=True)
        seen += [(COLOUR_NAMES[colour], BANK.nouns[noun]) for colour, noun in drawn]
    everything = {(c, n) for c in COLOUR_NAMES for n in BANK.nouns}
    assert set(seen) == {pair for pair in everything if not held_out(25, *pair)}
    more = sum(colour in MORE_COLOURS for colour, _ in seen) / len(seen)
    assert abs(more - 0.3) < 0.1


def test_the_other_colours_are_drawn_as_ever_without_more() -> None:
    assert _make_renderer().imagine(500, 3).colours.max() < len(COLOURS)
    assert not set(COLOURS) & set(MORE_COLOURS)


def test_what_is_held_out_stays_so_for_ever() -> None:
    kept = [(c, n) for c in COLOURS for n in BANK.nouns if held_out(8, c, n)]
    assert kept == [("orange", "circle"), ("yellow", "ring"), ("pink", "diamond")]


def test_held_out_shares_nest() -> None:
    words = [(a, b) for a in COLOURS for b in BANK.nouns]
    shares = [{pair for pair in words if held_out(percent, *pair)} for percent in (0, 8, 30, 100)]
    assert not shares[0]
    assert shares[0] <= shares[1] <= shares[2] <= shares[3] == set(words)


@given(weights=st.tuples(*[st.sampled_from([0.0, 1.0])] * 3).filter(any), most=st.integers(2, 4))
def test_only_kinds_with_a_weight_are_drawn(weights: tuple[float, ...], most: int) -> None:
    scenes = _make_renderer(kinds=weights, most=most).imagine(60, 0)
    assert set(scenes.kind.tolist()) == {i for i, weight in enumerate(weights) if weight}
    count = (scenes.nouns >= 0).sum(1)
    assert torch.equal(count == 1, scenes.kind == KINDS.index("single"))
    assert count.max() <= most
    assert torch.equal(scenes.relation >= 0, scenes.kind == KINDS.index("pair"))


def test_painted_backgrounds_vary_within_a_picture() -> None:
    renderer = _make_renderer(painted=1.0)
    scenes = renderer.imagine(8, 0)
    empty = replace(scenes, sprites=torch.full_like(scenes.sprites, -1))
    plain = replace(empty, painting=torch.zeros_like(empty.painting))
    assert (renderer.render(empty).flatten(2).std(-1) > 0.003).all()
    assert (renderer.render(plain).flatten(2).std(-1) < 1e-6).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": (1, 1)}, "kinds: give 3 weights"),
        ({"kinds": (0, 0, 0)}, "kinds: give 3 weights"),
        ({"most": 5}, "most: 5"),
        ({"size": 4}, "size: 4"),
        ({"natural": 1.5}, "natural: 1.5"),
    ],
)
def test_scenes_that_cannot_be_drawn_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SceneConfig(**{"size": 32, **changes})  # type: ignore[arg-type]


def test_holding_everything_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out_percent"):
        _make_renderer(held_out_percent=100)
