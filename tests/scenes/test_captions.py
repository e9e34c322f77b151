import re
from dataclasses import replace

import pytest

from unmask.scenes.captions import (
    COLOUR_SYNONYMS,
    NUMBERS,
    SCENERY_ENDS,
    SYNONYMS,
    captions,
    plural,
    with_article,
)
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig, Scenes
from unmask.scenes.vocabulary import BACKGROUND_NAMES, BACKGROUNDS, COLOUR_NAMES, KINDS

NOUNS = SpriteBank.of_shapes().nouns


def _imagine(count: int, **changes: object) -> Scenes:
    config = SceneConfig(32, most=4, **{"kinds": (1, 1, 1, 1), **changes})  # type: ignore[arg-type]
    return SceneRenderer(SpriteBank.of_shapes(), config).composer.compose(count, 0)


def _colour_words(colour: int, names: list[str]) -> tuple[str, ...]:
    return (names[colour], *COLOUR_SYNONYMS.get(names[colour], ()))


def _thing(noun: int, colour: int, many: bool = False) -> str:
    word = plural(NOUNS[noun]) if many else NOUNS[noun]
    if colour < 0:
        return word
    return f"({'|'.join(_colour_words(colour, list(COLOUR_NAMES)))}) {word}"


def _said(pattern: str, text: str) -> bool:
    return re.search(rf"\b{pattern}\b", text) is not None


def test_wording_depends_on_the_seed_alone() -> None:
    scenes = _imagine(200)
    assert captions(scenes, NOUNS, 1) == captions(scenes, NOUNS, 1)
    assert captions(scenes, NOUNS, 1) != captions(scenes, NOUNS, 2)


def test_singles_name_their_object_and_colour() -> None:
    scenes = _imagine(300, kinds=(1.0, 0.0, 0.0), more_colours=0.3)
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        thing = _thing(int(scenes.nouns[row, 0]), int(scenes.colours[row, 0]))
        assert _said(f"an? {thing}", text), text


def test_counts_name_their_number_and_a_plural() -> None:
    scenes = _imagine(300, kinds=(0.0, 1.0, 0.0))
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        number = int((scenes.nouns[row] >= 0).sum())
        thing = _thing(int(scenes.nouns[row, 0]), int(scenes.colours[row, 0]), many=True)
        assert _said(f"({'|'.join(NUMBERS[number])}) {thing}", text), text


def test_pairs_name_both_objects_and_no_relation_but_the_true_one() -> None:
    scenes = _imagine(1000, kinds=(0.0, 0.0, 1.0))
    forward = {0: ("to the left of", "left of"), 1: ("above", "over")}
    backward = {0: ("to the right of", "right of"), 1: ("below", "under")}
    related = 0
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        first, second = (
            _thing(int(scenes.nouns[row, item]), int(scenes.colours[row, item])) for item in (0, 1)
        )
        assert _said(first, text), text
        assert _said(second, text), text
        relation = int(scenes.relation[row])
        for words, a, b in ((forward, first, second), (backward, second, first)):
            if phrase := next((p for p in words[relation] if f" {p} " in text), None):
                related += 1
                assert _said(f"{a} {phrase} an? {b}", text), text
            assert not any(f" {phrase} " in text for phrase in words[1 - relation]), text
    assert related > 300


def test_and_means_side_by_side_in_the_order_of_reading() -> None:
    scenes = _imagine(1000, kinds=(0.0, 0.0, 1.0))
    joined = 0
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        if " and " in text:
            joined += 1
            assert int(scenes.relation[row]) == 0
            first, second = (
                _thing(int(scenes.nouns[row, item]), int(scenes.colours[row, item]))
                for item in (0, 1)
            )
            assert _said(f"{first} and an? {second}", text), text
    assert 200 < joined < 300


def test_places_are_true_when_they_are_said() -> None:
    scenes = _imagine(500, kinds=(1.0, 0.0, 0.0))
    words = ("middle|centre|center", "left", "right", "top", "bottom")
    said = 0
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        for place, word in enumerate(words):
            if _said(f"(in|on|at) the ({word})", text):
                said += 1
                assert place == int(scenes.place[row]), text
    assert 100 < said < 300


def test_the_background_is_true_when_it_is_said() -> None:
    scenes = _imagine(500, kinds=(1, 1, 1))
    said = 0
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        names = list(BACKGROUNDS)
        true = {*_colour_words(int(scenes.background[row]), names)}
        found = re.search(r"(?: on|,)(?: an?)? (\w+)(?: background)?$", text)
        if found and found[1] not in {"left", "right"}:
            said += 1
            assert found[1] in true, text
    assert 350 < said < 475


def test_synonyms_stand_for_their_noun() -> None:
    scenes = replace(_imagine(200, kinds=(1.0, 0.0, 0.0)))
    scenes.nouns[:, 0] = 0
    texts = captions(scenes, ("rabbit",), 0)
    assert all(("rabbit" in text) != ("bunny" in text) for text in texts)
    assert 20 < sum("bunny" in text for text in texts) < 80


def test_every_kind_gets_a_caption() -> None:
    scenes = _imagine(100)
    assert set(scenes.kind.tolist()) == set(range(len(KINDS)))
    texts = captions(scenes, NOUNS, 0)
    assert len(texts) == 100
    assert all(text == text.strip() and "  " not in text for text in texts)


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("apple", "apples"),
        ("bus", "buses"),
        ("fox", "foxes"),
        ("peach", "peaches"),
        ("toothbrush", "toothbrushes"),
        ("butterfly", "butterflies"),
        ("key", "keys"),
        ("cup of coffee", "cups of coffee"),
        ("box of fries", "boxes of fries"),
        ("wolf", "wolves"),
        ("deer", "deer"),
        ("snowman", "snowmen"),
        ("tomato", "tomatoes"),
        ("octopus", "octopuses"),
        ("glasses", "glasses"),
        ("t-shirt", "t-shirts"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("apple", "an apple"),
        ("red apple", "a red apple"),
        ("orange bus", "an orange bus"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("pair of glasses", "a pair of glasses"),
        ("red glasses", "red glasses"),
    ],
)
def test_articles(phrase: str, said: str) -> None:
    assert with_article(phrase) == said


def test_no_synonym_is_the_noun_of_another() -> None:
    synonyms = [word for words in SYNONYMS.values() for word in words]
    assert len(set(synonyms)) == len(synonyms)
    assert not set(synonyms) & set(SYNONYMS)


def test_three_things_are_named_in_the_order_of_reading() -> None:
    scenes = _imagine(100, kinds=(0, 0, 0, 1), natural=1.0)
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        places = [text.index(NOUNS[noun]) for noun in scenes.nouns[row, :3].tolist()]
        assert places == sorted(places), text


def test_scenery_is_true_when_it_is_said() -> None:
    scenes = _imagine(300, scenery=1.0)
    said = 0
    for row, text in enumerate(captions(scenes, NOUNS, 0)):
        name = BACKGROUND_NAMES[int(scenes.background[row])]
        found = [of for words, of in SCENERY_ENDS.items() if text.endswith(words)]
        assert found in ([], [name]), text
        said += len(found)
    assert 200 < said < 290


def test_every_style_but_the_usual_one_is_named() -> None:
    scenes = _imagine(300)
    styles = ("fluent-flat", "fluent-3d")
    scenes.style[::2] = 1
    plain = captions(scenes, NOUNS, 0)
    told = captions(scenes, NOUNS, 0, styles)
    assert captions(scenes, NOUNS, 0, styles[:1]) == plain
    assert all("3d" in text for text in told[::2])
    flat = [text for text in told[1::2] if "flat" in text]
    assert 10 < len(flat) < 75
    assert not any("3d" in text for text in told[1::2])
