"""What of a wish is not there. How positions hold is in tests/evaluation/test_verdict.py."""

import pytest

from unmask.scenes.judge import Found, Sight
from unmask.scenes.wanted import Thing, Wanted, faults

APPLE, BOOK = Thing("apple", "red"), Thing("book", "blue")


def _found(noun: str, *colours: str, x: float = 16) -> Found:
    return Found(x, 32, 24, 1.0, noun, (), colours)


RED, BLUE, GREEN = (
    _found("apple", "red"),
    _found("book", "blue", x=48),
    _found("apple", "green", x=48),
)


@pytest.mark.parametrize(
    ("wanted", "objects", "wrong"),
    [
        (Wanted((APPLE,)), [RED], ()),
        (Wanted((APPLE,)), [RED, GREEN, BLUE], ()),
        (Wanted((APPLE,)), [GREEN, RED], ("colours",)),
        (Wanted((APPLE,)), [_found("apple", "red", "blue")], ("colours",)),
        (Wanted((APPLE,)), [BLUE], ("missing",)),
        (Wanted((APPLE,), 2), [], ("missing",)),
        (Wanted((APPLE,), 2), [RED], ("count",)),
        (Wanted((APPLE,), 2), [RED, RED, RED], ("count",)),
        (Wanted((APPLE,), 2), [RED, GREEN], ("colours",)),
        (Wanted((APPLE, BOOK)), [RED, BLUE], ()),
        (Wanted((APPLE, Thing("book"), Thing("cat"))), [RED, BLUE], ("missing",)),
        (Wanted((APPLE, BOOK), 1, "to the left of"), [RED, BLUE], ()),
        (Wanted((APPLE, BOOK), 1, "above"), [RED, BLUE], ("position",)),
        (Wanted((APPLE, BOOK), 1, "above"), [GREEN], ("missing", "colours")),
        (Wanted((APPLE,), 1, None, "white"), [RED], ()),
        (Wanted((APPLE,), 1, None, "blue"), [], ("missing", "background")),
    ],
)
def test_what_is_not_there_is_told(
    wanted: Wanted, objects: list[Found], wrong: tuple[str, ...]
) -> None:
    assert faults(wanted, Sight(tuple(objects), (), "white")) == wrong
