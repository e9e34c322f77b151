"""What a request is drawn with all the same, but its sender should know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from unmask.errors import shown
from unmask.models.conditions import ConditionEncoder

MOST_NEAREST = 3
MOST_COMPARED = 32  # words of a text: comparing takes its time
LONGEST_COMPARED = 40  # characters of a word


@dataclass(frozen=True)
class UnknownWord:
    """A word as it stands in a prompt, and the words that the model knows and that look most like
    it."""

    word: str
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class RequestWarning:
    """``code`` is for programs, ``param`` names the field, ``message`` says it in words."""

    code: str
    param: str
    message: str
    words: tuple[UnknownWord, ...]


def unknown_words(
    condition: ConditionEncoder, model: str, texts: Iterable[tuple[str, str]]
) -> tuple[RequestWarning, ...]:
    """A warning of each text, given behind the name of its field, that holds words which the model
    of that name was not taught."""
    known = condition.words or ()
    warnings = []
    for param, text in texts:
        words = tuple(
            UnknownWord(word, _nearest(word, known) if place < MOST_COMPARED else ())
            for place, word in enumerate(condition.unknown_words(text))
        )
        if words:
            told = ", ".join(map(_told, words))
            message = f"{param}: {model} was not taught {told}"
            warnings.append(RequestWarning("unknown_words", param, message, words))
    return tuple(warnings)


def _nearest(word: str, known: Sequence[str]) -> tuple[str, ...]:
    return tuple(get_close_matches(word.lower()[:LONGEST_COMPARED], known, MOST_NEAREST))


def _told(unknown: UnknownWord) -> str:
    nearest = f" (nearest: {', '.join(unknown.nearest)})" if unknown.nearest else ""
    return f"{shown(unknown.word)}{nearest}"
