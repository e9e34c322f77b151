import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import ConfigError, RequestError
from unmask.evaluation.prompts import (
    CATEGORIES,
    POSITIONS,
    THREE,
    Prompt,
    fitting_scenes,
    make_prompts,
)
from unmask.evaluation.verdict import judge_picture
from unmask.scenes.judge import Found, Sight
from unmask.scenes.reading import PromptReader
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SHAPES, SpriteBank
from unmask.scenes.truth import SceneConfig, Scenes
from unmask.scenes.vocabulary import BACKGROUNDS, COLOURS, SCENERY, SHADES, held_out
from unmask.scenes.wanted import Thing

NOUNS = ("apple", "book", "cat", "duck", "key", "tree")


def true_sight(scenes: Scenes, row: int, nouns: tuple[str, ...], size: int = 64) -> Sight:
    """What a perfect judge sees in a scene; objects of natural colour carry none."""
    objects = []
    for slot in (scenes.nouns[row] >= 0).nonzero().flatten().tolist():
        left, top, right, bottom = (scenes.boxes[row, slot] * size).tolist()
        noun, colour = int(scenes.nouns[row, slot]), int(scenes.colours[row, slot])
        objects.append(
            Found(
                x=(left + right) / 2,
                y=(top + bottom) / 2,
                side=right - left,
                whole=1.0,
                noun=nouns[noun],
                nouns=tuple(float(i == noun) for i in range(len(nouns))),
                colours=(list(COLOURS)[colour],) if colour >= 0 else (),
            )
        )
    return Sight(tuple(objects), (), list(BACKGROUNDS)[int(scenes.background[row])])


def _unseen(prompt: Prompt, percent: int) -> bool:
    combinations: list[tuple[str, ...]] = [
        (thing.colour, thing.noun) for thing in prompt.things if thing.colour
    ]
    if prompt.position:
        relation, turned = POSITIONS[prompt.position]
        a, b = (thing.noun for thing in prompt.things[:: -1 if turned else 1])
        combinations.append((a, relation, b))
    return any(held_out(percent, *words) for words in combinations)


@given(seed=st.integers(0, 10**6), percent=st.integers(5, 60))
def test_held_out_prompts_hold_what_training_never_draws_and_others_do_not(
    seed: int, percent: int
) -> None:
    prompts = make_prompts(NOUNS, percent, seed, 2, 1)
    assert [prompt.held_out for prompt in prompts] == [False] * 12 + [True] * 6
    assert all(_unseen(prompt, percent) == prompt.held_out for prompt in prompts)


@given(seed=st.integers(0, 10**6))
def test_fewer_prompts_are_the_first_of_more(seed: int) -> None:
    first, more = make_prompts(NOUNS, 8, seed, 2), make_prompts(NOUNS, 8, seed, 5)
    for i, category in enumerate(CATEGORIES):
        assert first[2 * i : 2 * i + 2] == more[5 * i : 5 * i + 2]
        assert {prompt.category for prompt in more[5 * i : 5 * i + 5]} == {category}


def test_another_seed_asks_for_other_pictures() -> None:
    first, second = ({p.text for p in make_prompts(NOUNS, 8, seed, 20)} for seed in (0, 1))
    assert len(first & second) < len(first) / 2


def test_prompts_ask_for_what_their_category_says() -> None:
    for prompt in make_prompts(NOUNS, 8, 0, 30):
        pair = prompt.category in ("two objects", "position", "attribution")
        assert len({thing.noun for thing in prompt.things}) == 1 + pair
        assert prompt.count in ((2, 3) if prompt.category == "counting" else (1,))
        assert (prompt.position is not None) == (prompt.category == "position")
        if prompt.category in ("colours", "attribution"):
            assert all(thing.colour for thing in prompt.things)
            assert len({thing.colour for thing in prompt.things}) == len(prompt.things)
        for thing in prompt.things:
            assert thing.colour is None or thing.colour in prompt.text


def test_the_seeds_of_images_differ_and_stay() -> None:
    prompts = make_prompts(NOUNS, 8, 0, 5)
    seeds = [prompt.image_seed(0, image) for prompt in prompts for image in range(4)]
    assert len(set(seeds)) == len(seeds)
    # Results of yesterday are compared with those of today: this must never change.
    assert Prompt("single/seen/0", "", "single", ()).image_seed(0, 0) == 2106574242


@given(seed=st.integers(0, 1000))
def test_a_fitting_scene_shows_just_what_its_prompt_asks_for(
    renderer: SceneRenderer, seed: int
) -> None:
    nouns = renderer.bank.nouns
    prompts = make_prompts(nouns, 30, seed, 2, 1)
    scenes = fitting_scenes(prompts, renderer, seed)
    for row, prompt in enumerate(prompts):
        verdict = judge_picture(prompt, true_sight(scenes, row, nouns), nouns)
        assert verdict.right, prompt.text
        assert verdict.tags == ()
        assert verdict.background in (None, True)
        colours = [thing.colour for thing in prompt.things for _ in range(prompt.count)]
        shown = [
            int(c) for c, n in zip(scenes.colours[row], scenes.nouns[row], strict=True) if n >= 0
        ]
        expected = [-1 if colour is None else list(COLOURS).index(colour) for colour in colours]
        assert sorted(shown) == sorted(expected)


def test_fitting_scenes_differ_by_their_index_alone(renderer: SceneRenderer) -> None:
    prompts = make_prompts(renderer.bank.nouns, 30, 0, 3)
    first, again, other = (
        renderer.render(fitting_scenes(prompts, renderer, index)) for index in (0, 0, 1)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_a_noun_without_sprites_is_told(renderer: SceneRenderer) -> None:
    prompts = [Prompt("single/seen/0", "a whale", "single", (Thing("whale"),))]
    with pytest.raises(ConfigError, match="whale"):
        fitting_scenes(prompts, renderer, 0)


@pytest.mark.parametrize(
    ("nouns", "percent", "param"),
    [(NOUNS[:1], 8, "nouns"), (NOUNS, 0, "held_out_percent"), (NOUNS, 100, "held_out_percent")],
)
def test_prompts_that_cannot_be_made_name_the_field(
    nouns: tuple[str, ...], percent: int, param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.evaluation.prompts.MOST_TRIES", 50)
    with pytest.raises(RequestError) as caught:
        make_prompts(nouns, percent, 0, 1 if percent < 100 else 40, 1)
    assert caught.value.param == param


def test_a_larger_world_is_asked_for_what_it_shows() -> None:
    scenes = SceneConfig(64, kinds=(1, 1, 1, 1), most=4, shades=0.2, scenery=0.2)
    prompts = make_prompts(SHAPES, 8, 0, 40, 10, scenes)
    assert {prompt.category for prompt in prompts} == {*CATEGORIES, THREE}
    assert {prompt.count for prompt in prompts} == {1, 2, 3, 4}
    colours = {thing.colour for prompt in prompts for thing in prompt.things}
    assert colours == {None, *scenes.colours}
    assert {*SCENERY} < {prompt.background for prompt in prompts}
    assert all(
        thing.colour != prompt.background or thing.colour not in SHADES
        for prompt in prompts
        for thing in prompt.things
        if thing.colour
    )
    read = PromptReader(SHAPES, scenes.colours, scenes.backgrounds)
    assert all(read(prompt.text) == prompt.wanted for prompt in prompts)
    renderer = SceneRenderer(SpriteBank.of_shapes(), scenes)
    made = fitting_scenes(prompts, renderer, 0)
    for row, prompt in enumerate(prompts):
        assert int((made.nouns[row] >= 0).sum()) == prompt.count * len(prompt.things)
