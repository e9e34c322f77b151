"""Which words of a prompt speak of the same object: small rules for noun phrases, no more.

A caller who knows better names the subjects himself.
"""

import re

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
