"""Captions for scenes: the same truth in many wordings."""

import random

from unmask.scenes.truth import Scenes
from unmask.scenes.vocabulary import (
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    KINDS,
    PLACES,
    RELATIONS,
    SCENERY,
    STYLES,
)

SYNONYMS = {
    "car": ("automobile",),
    "rabbit": ("bunny",),
    "cat": ("kitten",),
    "rocket": ("spaceship",),
    "sailboat": ("boat",),
    "gift": ("present",),
    "t-shirt": ("shirt",),
    "turtle": ("tortoise",),
    "airplane": ("plane",),
    "bicycle": ("bike",),
    "television": ("tv",),
    "doughnut": ("donut",),
    "hamburger": ("burger",),
    "locomotive": ("train",),
    "pair of glasses": ("glasses",),
    "alarm clock": ("clock",),
    "birthday cake": ("cake",),
    "cup of coffee": ("coffee cup",),
    "dinosaur": ("t-rex",),
    "flying saucer": ("ufo",),
    "gem stone": ("diamond",),
    "jack-o-lantern": ("pumpkin",),
    "ladybug": ("ladybird",),
    "light bulb": ("lamp",),
    "motorcycle": ("motorbike",),
    "soccer ball": ("football",),
    "teddy bear": ("teddy",),
}
COLOUR_SYNONYMS = {"purple": ("violet",), "red": ("crimson",), "grey": ("gray",)}
NUMBERS = {
    2: ("two", "two", "2", "a pair of"),
    3: ("three", "three", "3"),
    4: ("four", "four", "4"),
}
_IRREGULAR = {
    "mouse": "mice",
    "wolf": "wolves",
    "snowman": "snowmen",
    "tomato": "tomatoes",
    "sheep": "sheep",
    "deer": "deer",
    "glasses": "glasses",
}
_SCENERY_WORDS = {
    "sky": (" in the sky", " in the sky", ", sky background"),
    "grass": (" on the grass", " on grass", ", grass background"),
    "sea": (" on the sea", " at sea", ", sea background"),
    "night": (" at night", " in the night", ", night background"),
}
SCENERY_ENDS = {words: name for name in SCENERY for words in _SCENERY_WORDS[name]}
_TRIOS = ("{a}, {b} and {c}", "{a}, {b} and {c}", "{a}, {b}, {c}", "{a} and {b} and {c}")
OPENINGS = ("a picture of ", "an image of ", "a drawing of ")
_SINGLE_PLACES = {
    "centre": ("in the middle", "in the centre", "in the center"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}
_RELATED = {
    "left of": (
        "{a} to the left of {b}",
        "{a} left of {b}",
        "{b} to the right of {a}",
        "{b} right of {a}",
        "{a} next to {b}",
        "{b} beside {a}",
    ),
    "above": ("{a} above {b}", "{a} over {b}", "{b} below {a}", "{b} under {a}"),
}


def plural(noun: str) -> str:
    """The plural of a noun that scenes use: ``cup of coffee`` gives ``cups of coffee``."""
    if " of " in noun:
        head, tail = noun.split(" of ", 1)
        return f"{plural(head)} of {tail}"
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """The phrase after ``a`` or ``an``; ``glasses`` are many and take neither."""
    if phrase.endswith("glasses") and " of " not in phrase:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' and not phrase.startswith('uni') else 'a'} {phrase}"


def captions(
    scenes: Scenes, nouns: tuple[str, ...], seed: int, styles: tuple[str, ...] = ()
) -> list[str]:
    """One caption for each scene; the wording depends on ``seed`` alone. Where there are several
    ``styles``, all but the first are named always."""
    rng = random.Random(seed)
    texts = [_caption(scenes, row, nouns, rng) for row in range(len(scenes.kind))]
    if len(styles) < 2:
        return texts
    return [
        _in_style(text, styles[style], style == 0, rng)
        for text, style in zip(texts, scenes.style.tolist(), strict=True)
    ]


def _in_style(text: str, style: str, usual: bool, rng: random.Random) -> str:
    word = STYLES.get(style, style)
    if usual and rng.random() < 0.75:
        return text
    if rng.random() < 0.5 and not text.startswith(OPENINGS):
        return f"{with_article(word)} {rng.choice(('picture', 'image', 'drawing'))} of {text}"
    return f"{text}, {word} style"


def _caption(scenes: Scenes, row: int, nouns: tuple[str, ...], rng: random.Random) -> str:
    kind = KINDS[int(scenes.kind[row])]
    present = [int(noun) for noun in scenes.nouns[row] if noun >= 0]
    colours = [int(colour) for colour in scenes.colours[row]]
    if kind in ("pair", "trio"):
        a, b, *others = (
            with_article(thing_words(nouns[noun], colour, rng))
            for noun, colour in zip(present, colours, strict=False)
        )
    if kind == "trio":
        # In the order of reading: the first two stand above the third.
        text = rng.choice(_TRIOS).format(a=a, b=b, c=others[0])
    elif kind == "pair":
        relation = RELATIONS[int(scenes.relation[row])]
        # One meaning only, the order of reading: a model that may choose between layouts at every
        # token of its own accord draws half of each.
        if relation == "left of" and rng.random() < 0.5:
            text = f"{a} and {b}"
        else:
            text = rng.choice(_RELATED[relation]).format(a=a, b=b)
    elif kind == "count":
        number = rng.choice(NUMBERS[len(present)])
        text = f"{number} {thing_words(nouns[present[0]], colours[0], rng, many=True)}"
    else:
        text = with_article(thing_words(nouns[present[0]], colours[0], rng))
        if rng.random() < 0.4:
            text += f" {rng.choice(_SINGLE_PLACES[PLACES[int(scenes.place[row])]])}"
    if rng.random() < 0.15:
        text = rng.choice(OPENINGS) + text
    return text + background_words(BACKGROUND_NAMES[int(scenes.background[row])], rng)


def thing_words(noun: str, colour: int, rng: random.Random, many: bool = False) -> str:
    """A noun or a synonym, behind its colour unless that is -1."""
    word = rng.choice((noun, noun, noun, *SYNONYMS.get(noun, ())))
    word = plural(word) if many else word
    if colour < 0:
        return word
    name = COLOUR_NAMES[colour]
    return f"{rng.choice((name, name, name, *COLOUR_SYNONYMS.get(name, ())))} {word}"


def background_words(colour: str, rng: random.Random) -> str:
    """The end of a caption: on what background, most times."""
    if rng.random() < 0.15:
        return ""
    if colour in SCENERY:
        return rng.choice(_SCENERY_WORDS[colour])
    colour = rng.choice((colour, colour, colour, *COLOUR_SYNONYMS.get(colour, ())))
    ground = with_article(f"{colour} background")
    return rng.choice((f" on {ground}", f" on {ground}", f" on {colour}", f", {colour} background"))
