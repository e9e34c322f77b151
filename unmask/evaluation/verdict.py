"""Whether a picture shows what its prompt asks for, and how it fails, by GenEval's rules.

An object is asked for at least, but in counting exactly; colours and positions are those of the
surest objects. Colours count in the categories colours and attribution only.
"""

from dataclasses import dataclass

from unmask.evaluation.prompts import Prompt
from unmask.scenes.judge import Found, Sight
from unmask.scenes.wanted import Thing, faults, found_of

TAGS = ("missing", "mixture", "leakage", "extra")
AMBIGUOUS = 0.25  # something is two nouns at once if both have this probability


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
    wrong = faults(prompt.wanted, sight)
    right = not any(_counts(prompt, fault) for fault in wrong)
    background = None if prompt.background is None else "background" not in wrong
    return Verdict(right, _tags(prompt, sight, found_of(prompt.wanted, sight), nouns), background)


def _counts(prompt: Prompt, fault: str) -> bool:
    return fault != "background" and (fault != "colours" or prompt.judges_colours)


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
