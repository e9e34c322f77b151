"""Which words of a prompt speak of the same object: small rules for noun phrases, no more.

A caller who knows better names the subjects himself.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

# What stands between two noun phrases.
_BETWEEN = re.compile(
    r"[,;.:]|\b(?:(?:picture|image|photo|photograph|drawing|painting|illustration|sketch) of|"
    r"and|or|with|without|next to|beside|near|behind|beyond|before|in front of|"
    r"(?:to the )?(?:left|right) of|on top of|above|below|under|underneath|beneath|over|on|in|at|"
    r"inside|into|holding|wearing|riding|is|are|has|that|which|while|of (?=an? ))\b"
)
# Words that count or point, but tell nothing of the object.
_POINTING = re.compile(
    r"an?|the|this|that|these|those|some|one|two|three|four|five|six|seven|eight|nine|ten|pair|of|"
    r"several|many|few|its|his|her|their|my|your|\d+"
)
# What a picture is made of, rather than what is in it.
_NOT_OBJECTS = re.compile(
    r"background|picture|image|photo|photograph|drawing|painting|illustration|sketch|scene|middle|"
    r"cent(re|er)|left|right|top|bottom|side|front"
)


def find_subjects(prompt: str) -> tuple[tuple[str, ...], ...]:
    """The words of each object, attributes first: ``a red apple and a blue book`` gives
    ``(("red", "apple"), ("blue", "book"))``. A background is no object."""
    subjects = []
    for phrase in _BETWEEN.split(prompt.lower()):
        words = [
            word
            for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*", phrase)
            if not _POINTING.fullmatch(word)
        ]
        if words and not _NOT_OBJECTS.fullmatch(words[-1]):
            subjects.append(tuple(words))
    return tuple(subjects)


# A word that begins a noun phrase.
_BEGINNING = r"(?:an?|the|some|another|one|two|three|four|five|six|seven|eight|nine|ten|\d+)\b"
_LIST = r"\s*[,;]\s*(?:and\s+)?|\s+and\s+"
# What comes before all that a prompt names, and how all of it is drawn.
_OPENING = re.compile(
    r"(?:an?\s+|the\s+)?(?:\S+\s+)?"
    r"(?:picture|image|photo|photograph|drawing|painting|illustration|sketch)\s+of\s+",
    re.IGNORECASE,
)
# What comes last, and tells where all of it is, and how it is drawn: no place within the picture.
_PLACE = r"(?:the\s+)?(?:left|right|top|bottom|mid|cent|front)"
_GROUND = re.compile(
    rf"(?:,?\s+(?:on|in|at|against|under)\s+(?!{_PLACE})[^,;]+)?"
    r"(?:\s*,\s*(?:[^\s,;]+\s+){1,3}(?:background|style))*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Parts:
    """What a prompt ``names`` side by side; what comes before all of it, and the ``ground`` that it
    is on, may be empty."""

    names: tuple[str, ...]
    ground: str = ""
    opening: str = ""

    def only(self, names: Iterable[str]) -> "Parts":
        """Some of its names."""
        return replace(self, names=tuple(names))

    def text(self) -> str:
        """The prompt for all of it; empty for none."""
        if not self.names:
            return ""
        listed = [", ".join(self.names[:-1])] if len(self.names) > 1 else []
        return self.opening + " and ".join([*listed, self.names[-1]]) + self.ground


def find_parts(prompt: str) -> Parts:
    """What a prompt names side by side: ``a red apple, two books and a cat on a white background``
    has three names and a ground. What stands in a relation to another stays with it: ``a cat above
    a dog`` is one name. So is a prompt that no rule here can read."""
    text = " ".join(prompt.split()).rstrip(".!")
    opening = _OPENING.match(text)
    begin = opening.end() if opening else 0
    ground = _GROUND.search(text, begin)
    end = ground.start() if ground else len(text)
    listed = text[begin:end]
    between = _LIST
    if re.match(_BEGINNING, listed, re.IGNORECASE):  # "a black and white cat" is one name
        between = f"(?:{_LIST})(?={_BEGINNING})"
    names = tuple(name for name in re.split(between, listed, flags=re.IGNORECASE) if name)
    return Parts(names, text[end:], text[:begin]) if len(names) > 1 else Parts((prompt,))
