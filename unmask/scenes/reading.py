"""From the words of a prompt to what its picture must show, as far as a judge can see it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from unmask.scenes.captions import (
    COLOUR_SYNONYMS,
    NUMBERS,
    OPENINGS,
    SCENERY_ENDS,
    SYNONYMS,
    plural,
)
from unmask.scenes.wanted import Thing, Wanted

POSITIONS = {
    "to the left of": "to the left of",
    "left of": "to the left of",
    "to the right of": "to the right of",
    "right of": "to the right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
}
COUNTS = {word: count for count, words in NUMBERS.items() for word in words}


class UnreadError(ValueError):
    """A prompt asks for something of which a judge could not tell whether it is there."""


@dataclass(frozen=True)
class PromptReader:
    """Reads prompts about things that a judge knows: their nouns, colours and backgrounds."""

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]

    def __call__(self, prompt: str) -> Wanted:
        """What a prompt asks for; UnreadError says what of it cannot be read."""
        text = " ".join(prompt.lower().split()).rstrip(".!")
        for opening in OPENINGS:
            text = text.removeprefix(opening)
        text, background = self._background(text)
        first, position, second = _divided(text, POSITIONS)
        parts = [first, second] if position else re.split(r",? and |, ", text)
        read = [self._thing(part) for part in parts]
        things = tuple(thing for thing, _ in read)
        if len(things) == 1:
            return Wanted(things, read[0][1], None, background)
        if any(count > 1 for _, count in read):
            raise UnreadError("the judge counts things of one kind alone, with no others beside")
        if len({thing.noun for thing in things}) < len(things):
            raise UnreadError(f"the judge cannot tell one {things[0].noun} from the other")
        return Wanted(things, 1, POSITIONS.get(position), background)

    def _background(self, text: str) -> tuple[str, str | None]:
        """The text without its end, and the background that this names."""
        names = _spelled(self.backgrounds)
        colour = f"(?P<{{}}>{_any(names)})"
        on, comma = colour.format("on"), colour.format("comma")
        end = rf" on (?:an? |the )?{on}(?: background)?|, (?:an? )?{comma} background"
        for words, name in SCENERY_ENDS.items():
            if name in self.backgrounds and text.endswith(words):
                return text.removesuffix(words), name
        found = re.search(f"(?:{end})$", text)
        if found is None:
            return text, None
        return text[: found.start()], names[found["on"] or found["comma"]]

    def _thing(self, text: str) -> tuple[Thing, int]:
        colours = _spelled(self.colours)
        singular, many = _nouns(self.nouns)
        colour = f"(?:(?P<colour>{_any(colours)}) )?"
        one = re.fullmatch(rf"(?:(?:an?|one|the) )?{colour}(?P<noun>{_any(singular)})", text)
        if one:
            return Thing(singular[one["noun"]], colours.get(one["colour"])), 1
        several = re.fullmatch(rf"(?P<count>{_any(COUNTS)}) {colour}(?P<noun>{_any(many)})", text)
        if several:
            thing = Thing(many[several["noun"]], colours.get(several["colour"]))
            return thing, COUNTS[several["count"]]
        raise UnreadError(f"the judge cannot tell whether {text[:80]!r} is there")


def _divided(text: str, words: Iterable[str]) -> tuple[str, str, str]:
    """What stands before and behind the first of the words, and that one; all empty but the first
    if there is none."""
    parts = re.split(f" ({_any(words)}) ", text, maxsplit=1)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (text, "", "")


def _any(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


@cache
def _spelled(colours: tuple[str, ...]) -> dict[str, str]:
    """The colours by each word for them."""
    return {word: name for name in colours for word in (name, *COLOUR_SYNONYMS.get(name, ()))}


@cache
def _nouns(nouns: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """The nouns by each word for them, for one and for several."""
    words = {word: noun for noun in nouns for word in (noun, *SYNONYMS.get(noun, ()))}
    return words, {plural(word): noun for word, noun in words.items()}
