"""Whether a picture shows what its prompt asks for, and how it fails, by GenEval's rules.

An object is asked for at least, but in counting exactly; colours and positions are those of the
surest objects. Colours count in the categories colours and attribution only.
"""

import math
from dataclasses import dataclass

from unmask.evaluation.prompts import Prompt, Thing
from unmask.scenes.judge import Found, Sight

TAGS = ("missing", "mixture", "leakage", "extra")
AMBIGUOUS = 0.25  # something is two nouns at once if both have this probability
OVERLAP = 0.1  # a position needs an offset beyond this part of the two sides together


@dataclass(frozen=True)
class Verdict:
    """``tags`` say what is wrong, also where it does not count; ``background`` whether that is
    right, None if the prompt names none (it does not count either)."""

    right: bool
    tags: tuple[str, ...]
    background: bool | None


def judge_picture(prompt: Prompt, sight: Sight, nouns: tuple[str, ...]) -> Verdict:
    """The verdict on a picture; ``nouns`` are the judge's. Tags:

    missing: fewer whole objects of a noun than asked. mixture: something that carries both asked
    colours, or could be either of the asked nouns. leakage: an object has the colour of the other
    instead of its own. extra: more objects than asked, or one of another noun.
    """
    found = [
        [thing for thing in sight.objects if thing.noun == wanted.noun] for wanted in prompt.things
    ]
    background = None if prompt.background is None else sight.background == prompt.background
    return Verdict(_right(prompt, found), _tags(prompt, sight, found, nouns), background)


def relation_holds(position: str, first: Found, second: Found) -> bool:
    """Whether ``first`` is at this position, seen from ``second``."""
    reach = OVERLAP * (first.side + second.side)
    across, down = (_shrunk(first.x - second.x, reach), _shrunk(first.y - second.y, reach))
    length = max(math.hypot(across, down), 1e-6)
    holds = {
        "to the left of": across / length < -0.5,
        "to the right of": across / length > 0.5,
        "above": down / length < -0.5,
        "below": down / length > 0.5,
    }
    return holds[position]


def _right(prompt: Prompt, found: list[list[Found]]) -> bool:
    if prompt.category == "counting":
        return len(found[0]) == prompt.count
    if not all(found):
        return False
    surest = [objects[0] for objects in found]
    if prompt.category == "position":
        assert prompt.position is not None
        return relation_holds(prompt.position, surest[0], surest[1])
    if prompt.category in ("colours", "attribution"):
        wanted = [(thing.colour,) for thing in prompt.things]
        return [thing.colours for thing in surest] == wanted
    return True


def _tags(
    prompt: Prompt, sight: Sight, found: list[list[Found]], nouns: tuple[str, ...]
) -> tuple[str, ...]:
    wanted = prompt.count * len(prompt.things)
    nouns_wanted = {thing.noun for thing in prompt.things}
    holds = {
        "missing": any(len(objects) < prompt.count for objects in found),
        "mixture": len(prompt.things) == 2
        and any(_mixed(prompt.things, thing, nouns) for thing in sight.objects + sight.broken),
        "leakage": len(prompt.things) == 2 and all(found) and _leaks(prompt.things, found),
        "extra": len(sight.objects) > wanted
        or any(thing.noun not in nouns_wanted for thing in sight.objects),
    }
    return tuple(tag for tag in TAGS if holds[tag])


def _mixed(things: tuple[Thing, ...], found: Found, nouns: tuple[str, ...]) -> bool:
    colours = {thing.colour for thing in things if thing.colour}
    two_colours = len(colours) == 2 and colours <= set(found.colours)
    likely = [found.nouns[nouns.index(thing.noun)] for thing in things if thing.noun in nouns]
    return two_colours or (len(likely) == 2 and min(likely) >= AMBIGUOUS)


def _leaks(things: tuple[Thing, ...], found: list[list[Found]]) -> bool:
    """Whether the surest object of a noun has the other's colour and not its own."""
    if things[0].colour is None or things[1].colour is None:
        return False
    return any(
        other.colour in objects[0].colours and thing.colour not in objects[0].colours
        for thing, other, objects in zip(things, reversed(things), found, strict=True)
    )


def _shrunk(offset: float, reach: float) -> float:
    """An offset, nearer to 0 by ``reach``."""
    return max(abs(offset) - reach, 0.0) * (1 if offset > 0 else -1)
