"""Prompts as a judge reads them."""

from pathlib import Path

import pytest

from unmask import config
from unmask.box import BUNDLED
from unmask.evaluation.prompts import make_prompts
from unmask.scenes.judge import JudgeConfig
from unmask.scenes.reading import PromptReader, UnreadError
from unmask.scenes.wanted import Thing, Wanted

JUDGE: Path = BUNDLED / "storybook" / "judge" / "config.json"
KNOWN = config.load(JudgeConfig, JUDGE)
READ = PromptReader((*KNOWN.nouns, "pair of glasses"), KNOWN.colours, KNOWN.backgrounds)
APPLE, CAT = Thing("apple"), Thing("cat")


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a red apple", Wanted((Thing("apple", "red"),))),
        ("An image of  a RED apple.", Wanted((Thing("apple", "red"),))),
        ("two apples on a blue background", Wanted((APPLE,), 2, None, "blue")),
        ("a pair of crimson apples, gray background",
         Wanted((Thing("apple", "red"),), 2, None, "grey")),
        ("3 bunnies on black", Wanted((Thing("rabbit"),), 3, None, "black")),
        ("a pair of glasses", Wanted((Thing("pair of glasses"),))),
        ("a pair of apples", Wanted((APPLE,), 2)),
        ("an apple and a kitten", Wanted((APPLE, CAT))),
        ("an apple, a car, and a cat", Wanted((APPLE, Thing("car"), CAT))),
        ("an apple right of a cat", Wanted((APPLE, CAT), 1, "to the right of")),
        ("an apple under a violet cat on the pink background",
         Wanted((APPLE, Thing("cat", "purple")), 1, "below", "pink")),
    ],
)  # fmt: skip
def test_what_a_prompt_asks_for_is_read(prompt: str, wanted: Wanted) -> None:
    assert READ(prompt) == wanted


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "''"),
        ("a volcano", "'a volcano'"),
        ("a lime car", "'a lime car'"),
        ("apples", "'apples'"),
        ("an apple on a teal background", "teal"),
        ("an apple on the left", "on the left"),
        ("an apple beside a cat", "beside"),
        ("an apple above a cat above a car", "'a cat above a car'"),
        ("two apples and a cat", "counts things of one kind"),
        ("a red apple and a green apple", "one apple from the other"),
        ("x" * 1000, "x" * 80 + "'"),
    ],
)
def test_what_no_judge_could_tell_is_not_guessed(prompt: str, reason: str) -> None:
    with pytest.raises(UnreadError, match=reason):
        READ(prompt)


def test_prompts_of_the_evaluation_are_read_as_they_were_meant() -> None:
    prompts = make_prompts(KNOWN.nouns, 8, 0, 40, 10)
    for prompt in prompts:
        assert READ(prompt.text) == prompt.wanted, prompt.text
