import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import ConfigError
from unmask.scenes.composer import SceneComposer
from unmask.scenes.sprites import SHAPES, SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import (
    BACKGROUNDS,
    COLOUR_NAMES,
    COLOURS,
    KINDS,
    MORE_COLOURS,
    PLACES,
    RELATIONS,
    SHADES,
    held_out,
)

BANK = SpriteBank.of_shapes()


def _make_composer(**changes: object) -> SceneComposer:
    return SceneComposer(BANK, SceneConfig(32, **changes))  # type: ignore[arg-type]


def test_objects_of_one_kind_look_alike_and_do_not_overlap() -> None:
    scenes = _make_composer(kinds=(0, 1, 0), most=4).compose(300, 0)
    for row in range(300):
        present = scenes.nouns[row] >= 0
        for truth in (scenes.nouns, scenes.colours, scenes.sprites):
            assert len(torch.unique(truth[row][present])) == 1
        boxes = scenes.boxes[row][present]
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                overlap = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
                assert overlap.min() <= 0.1  # corners of neighbours may touch, no more


def test_boxes_hold_the_relation_and_the_place_that_the_truth_names() -> None:
    scenes = _make_composer(most=2).compose(2000, 0)
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
    boxes = _make_composer(most=4).compose(2000, 0).boxes
    assert boxes.min() >= 0
    assert boxes.max() <= 1


def test_held_out_pairs_are_never_drawn() -> None:
    composer = _make_composer(held_out_percent=25, natural=0.1)
    colours = {(c, n) for c in COLOURS for n in BANK.nouns if held_out(25, c, n)}
    pairs = {(a, r, b) for a in SHAPES for r in RELATIONS for b in SHAPES if held_out(25, a, r, b)}
    assert colours
    assert pairs
    seen_colours, seen_pairs = set(), set()
    for index in range(8):
        scenes = composer.compose(1000, index)
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
    composer = _make_composer(held_out_percent=25, natural=0.0, more_colours=0.3)
    seen = []
    for index in range(8):
        scenes = composer.compose(1000, index)
        rows = (scenes.nouns[:, 0] >= 0).nonzero().flatten()
        drawn = zip(scenes.colours[rows, 0].tolist(), scenes.nouns[rows, 0].tolist(), strict=True)
        seen += [(COLOUR_NAMES[colour], BANK.nouns[noun]) for colour, noun in drawn]
    everything = {(c, n) for c in (*COLOURS, *MORE_COLOURS) for n in BANK.nouns}
    assert set(seen) == {pair for pair in everything if not held_out(25, *pair)}
    more = sum(colour in MORE_COLOURS for colour, _ in seen) / len(seen)
    assert abs(more - 0.3) < 0.1


def test_the_other_colours_are_drawn_as_ever_without_more() -> None:
    assert _make_composer().compose(500, 3).colours.max() < len(COLOURS)
    assert not set(COLOURS) & set(MORE_COLOURS)


@given(weights=st.tuples(*[st.sampled_from([0.0, 1.0])] * 3).filter(any), most=st.integers(2, 4))
def test_only_kinds_with_a_weight_are_drawn(weights: tuple[float, ...], most: int) -> None:
    scenes = _make_composer(kinds=weights, most=most).compose(60, 0)
    assert set(scenes.kind.tolist()) == {i for i, weight in enumerate(weights) if weight}
    count = (scenes.nouns >= 0).sum(1)
    assert torch.equal(count == 1, scenes.kind == KINDS.index("single"))
    assert count.max() <= most
    assert torch.equal(scenes.relation >= 0, scenes.kind == KINDS.index("pair"))


def test_holding_everything_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out_percent"):
        _make_composer(held_out_percent=100)


def test_trios_are_of_three_nouns_in_the_order_of_reading() -> None:
    scenes = _make_composer(kinds=(0, 0, 0, 1), most=4).compose(400, 0)
    for nouns in scenes.nouns:
        assert len(set(nouns.tolist())) == 4
        assert nouns[3] == -1
    centres = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]) / 2
    assert (centres[:, 0, 0] < centres[:, 1, 0]).all()
    assert (centres[:, :2, 1] < centres[:, 2:3, 1]).all()
    allowed = _make_composer(kinds=(0, 0, 0, 1), held_out_percent=25, natural=0.0).compose(400, 0)
    for nouns, colours in zip(allowed.nouns, allowed.colours, strict=True):
        for noun, colour in zip(nouns.tolist(), colours.tolist(), strict=True):
            assert not held_out(25, COLOUR_NAMES[colour], BANK.nouns[noun])


def test_what_is_white_grey_or_black_never_stands_on_its_own_colour() -> None:
    scenes = _make_composer(shades=1.0, natural=0.0).compose(2000, 0)
    names = list(BACKGROUNDS)
    drawn = set()
    for background, colours in zip(scenes.background.tolist(), scenes.colours, strict=True):
        there = {COLOUR_NAMES[colour] for colour in colours.tolist() if colour >= 0}
        assert there <= set(SHADES)
        assert names[background] not in there
        drawn |= {(names[background], colour) for colour in there}
    assert {("white", "black"), ("black", "white"), ("grey", "white")} <= drawn


def test_a_picture_has_one_style_and_every_style_comes_up() -> None:
    bank = SpriteBank(
        nouns=("one", "two", "three"),
        styles=("flat", "round"),
        pixels=BANK.pixels[:5],
        noun_of=torch.tensor([0, 0, 1, 1, 2]),
        style_of=torch.tensor([0, 1, 0, 1, 0]),
        luminance=BANK.luminance[:5],
    )
    scenes = SceneComposer(bank, SceneConfig(32)).compose(300, 0)
    for style, sprites in zip(scenes.style.tolist(), scenes.sprites, strict=True):
        styles = {
            int(bank.style_of[sprite]) for sprite in sprites.tolist() if sprite not in (-1, 4)
        }
        assert styles <= {style}  # sprite 4 is all that its noun has
    assert set(scenes.style.tolist()) == {0, 1}
