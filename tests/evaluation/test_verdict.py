from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.evaluation.prompts import POSITIONS, Prompt
from unmask.evaluation.verdict import judge_picture
from unmask.scenes.judge import Found, Sight
from unmask.scenes.wanted import Thing, relation_holds

NOUNS = ("apple", "book", "cat")
RED_APPLE, BLUE_BOOK = Thing("apple", "red"), Thing("book", "blue")


def _found(noun: str, *colours: str, x: float = 16, y: float = 16, second: str = "") -> Found:
    """An object; ``second`` is another noun that it could be as well."""
    likely = {noun: 1.0} if not second else {noun: 0.6, second: 0.4}
    return Found(x, y, 24, 1.0, noun, tuple(likely.get(name, 0.0) for name in NOUNS), colours)


def _sight(*objects: Found, broken: tuple[Found, ...] = ()) -> Sight:
    return Sight(objects, broken, "white")


def _verdict(prompt: Prompt, sight: Sight) -> tuple[bool, tuple[str, ...]]:
    verdict = judge_picture(prompt, sight, NOUNS)
    return verdict.right, verdict.tags


ATTRIBUTION = Prompt("", "", "attribution", (RED_APPLE, BLUE_BOOK))
TWO = replace(ATTRIBUTION, category="two objects")
COUNTING = Prompt("", "", "counting", (Thing("apple"),), count=2)
SINGLE = Prompt("", "", "single", (Thing("apple"),))
COLOURS = Prompt("", "", "colours", (RED_APPLE,))
LEFT = Prompt("", "", "position", (Thing("apple"), Thing("book")), position="to the left of")

RED = _found("apple", "red")
BLUE = _found("book", "blue", x=48)


@pytest.mark.parametrize(
    ("prompt", "sight", "right", "tags"),
    [
        (SINGLE, _sight(RED), True, ()),
        (SINGLE, _sight(), False, ("missing",)),
        (SINGLE, _sight(BLUE), False, ("missing", "extra")),
        (SINGLE, _sight(RED, RED), True, ("extra",)),
        (SINGLE, _sight(broken=(RED,)), False, ("missing",)),
        (COUNTING, _sight(RED, RED), True, ()),
        (COUNTING, _sight(RED), False, ("missing",)),
        (COUNTING, _sight(RED, RED, RED), False, ("extra",)),
        (COLOURS, _sight(RED), True, ()),
        (COLOURS, _sight(_found("apple", "blue")), False, ()),
        (COLOURS, _sight(_found("apple", "red", "blue")), False, ()),
        (COLOURS, _sight(_found("apple")), False, ()),
        (TWO, _sight(RED, BLUE), True, ()),
        (TWO, _sight(_found("apple", "blue"), _found("book", "red")), True, ("leakage",)),
        (TWO, _sight(RED), False, ("missing",)),
        (TWO, _sight(RED, broken=(_found("book", "blue", second="apple"),)), False,
         ("missing", "mixture")),
        (ATTRIBUTION, _sight(RED, BLUE), True, ()),
        (ATTRIBUTION, _sight(BLUE, RED), True, ()),
        (ATTRIBUTION, _sight(_found("apple", "blue"), BLUE), False, ("leakage",)),
        (ATTRIBUTION, _sight(_found("apple", "green"), BLUE), False, ()),
        (ATTRIBUTION, _sight(_found("apple", "red", "blue"), BLUE), False, ("mixture",)),
        (ATTRIBUTION, _sight(RED, BLUE, _found("cat")), True, ("extra",)),
        (LEFT, _sight(RED, BLUE), True, ()),
        (LEFT, _sight(_found("apple", x=48), _found("book", x=16)), False, ()),
        (LEFT, _sight(_found("apple", y=16), _found("book", y=48)), False, ()),
    ],
)  # fmt: skip
def test_the_verdict_follows_the_rule_of_its_category(
    prompt: Prompt, sight: Sight, right: bool, tags: tuple[str, ...]
) -> None:
    assert _verdict(prompt, sight) == (right, tags)


@pytest.mark.parametrize(("background", "told"), [(None, None), ("white", True), ("black", False)])
def test_the_background_is_told_but_does_not_count(
    background: str | None, told: bool | None
) -> None:
    verdict = judge_picture(replace(SINGLE, background=background), _sight(RED), NOUNS)
    assert (verdict.right, verdict.background) == (True, told)


OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
PLACE = st.floats(0, 64)


@given(PLACE, PLACE, PLACE, PLACE)
def test_positions_are_opposite_seen_from_the_other_object(
    x: float, y: float, other_x: float, other_y: float
) -> None:
    first, second = _found("apple", x=x, y=y), _found("book", x=other_x, y=other_y)
    holding = {name for name in POSITIONS if relation_holds(name, first, second)}
    turned = {name for name in POSITIONS if relation_holds(name, second, first)}
    assert {OPPOSITE[name] for name in holding} == turned
    assert not any(OPPOSITE[name] in holding for name in holding)


def test_objects_upon_each_other_are_in_no_position() -> None:
    near = _found("book", x=18, y=14)
    assert not any(relation_holds(name, RED, near) for name in POSITIONS)
