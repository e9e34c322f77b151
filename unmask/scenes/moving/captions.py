"""Captions for clips: the same truth in many wordings.

A caption without a word of motion means that nothing moves.
"""

import random

from unmask.scenes.captions import NUMBERS, background_words, thing_words, with_article
from unmask.scenes.moving.motions import SPEEDS
from unmask.scenes.moving.truth import ARRANGEMENTS, MOTION_NAMES, MovingScenes
from unmask.scenes.vocabulary import BACKGROUNDS, RELATIONS

_GO = (("moves", "moving", "move"), ("goes", "going", "go"), ("slides", "sliding", "slide"))
_WAYS = {
    "moves left": ("left", "to the left"),
    "moves right": ("right", "to the right"),
    "moves up": ("up", "upwards"),
    "moves down": ("down", "downwards"),
}
# Third person, progressive and plural of each way to say it.
_VERBS = {
    "bounces": (
        ("bounces", "bouncing", "bounce"),
        ("bounces back", "bouncing back", "bounce back"),
    ),
    "grows": (("grows", "growing", "grow"), ("gets bigger", "getting bigger", "get bigger")),
    "shrinks": (
        ("shrinks", "shrinking", "shrink"),
        ("gets smaller", "getting smaller", "get smaller"),
    ),
    "fades in": (("fades in", "fading in", "fade in"),),
    "fades out": (
        ("fades out", "fading out", "fade out"),
        ("fades away", "fading away", "fade away"),
    ),
    "appears": (("appears", "appearing", "appear"),),
    "disappears": (
        ("disappears", "disappearing", "disappear"),
        ("vanishes", "vanishing", "vanish"),
    ),
    "spins": (("spins", "spinning", "spin"), ("turns around", "turning around", "turn around")),
    "jumps": (("jumps", "jumping", "jump"), ("hops", "hopping", "hop")),
}
_SPEED_WORDS = {"slowly": ("slowly",), "quickly": ("quickly", "quickly", "fast")}
_STILL = (
    ("stays still", "staying still", "stay still"),
    ("stands still", "standing still", "stand still"),
)
THIRD, PROGRESSIVE, PLURAL = range(3)
_RELATED = {
    "left of": (("to the left of", "left of"), ("to the right of", "right of")),
    "above": (("above", "over"), ("below", "under")),
}


def clip_captions(scenes: MovingScenes, nouns: tuple[str, ...], seed: int) -> list[str]:
    """One caption for each clip; the wording depends on ``seed`` alone."""
    luck = random.Random(seed)
    return [_caption(scenes, row, nouns, luck) for row in range(len(scenes.arrangement))]


def motion_words(
    motion: str,
    speed: str | None,
    form: int,
    luck: random.Random,
    always: bool = False,
    way: str | None = None,
) -> str:
    """What an object does: ``moves slowly to the left``; a speed is named three times in four, or
    ``always``; nothing for standing still, but one time in four. What bounces is told the ``way``
    it goes first, if that is given, one time in two."""
    if motion == "still":
        return luck.choice(_STILL)[form] if always or luck.random() < 0.25 else ""
    if motion == "bounces" and way is not None and luck.random() < 0.5:
        # No "bounces back" here, which would be the other way.
        return f"{_VERBS[motion][0][form]} {luck.choice(_WAYS[f'moves {way}'])}"
    if motion in _VERBS:
        return luck.choice(_VERBS[motion])[form]
    verb, way = luck.choice(_GO)[form], luck.choice(_WAYS[motion])
    # Slowly is what is meant where no speed is named.
    if speed is None or not (always or speed == "quickly" or luck.random() < 0.5):
        return f"{verb} {way}"
    word = luck.choice(_SPEED_WORDS[speed])
    return luck.choice((f"{verb} {word} {way}", f"{verb} {way} {word}"))


def _caption(scenes: MovingScenes, row: int, nouns: tuple[str, ...], luck: random.Random) -> str:
    still = scenes.still
    present = [int(noun) for noun in still.nouns[row] if noun >= 0]
    colours = [int(colour) for colour in still.colours[row]]
    motions = [MOTION_NAMES[int(motion)] for motion in scenes.motion[row] if motion >= 0]
    speeds = [None if speed < 0 else SPEEDS[int(speed)] for speed in scenes.speed[row]]
    arrangement = ARRANGEMENTS[int(scenes.arrangement[row])]
    form = luck.choice((THIRD, PROGRESSIVE))

    def thing(place: int, many: bool = False) -> str:
        words = thing_words(nouns[present[place]], colours[place], luck, many)
        return words if many else with_article(words)

    def doing(place: int, form: int = form) -> str:
        # Beside another, "left" may be where it stands.
        way = scenes.first_way(row, place) if arrangement == "single" else None
        words = motion_words(motions[place], speeds[place], form, luck, way=way)
        return f" {words}" if words else ""

    if arrangement == "count":
        number = luck.choice(NUMBERS[len(present)])
        form = PLURAL if form == THIRD else PROGRESSIVE
        text = f"{number} {thing(0, many=True)}{doing(0, form)}"
    elif arrangement == "passing":
        verb = ("passes", "passing")[form]
        way = motions[1].removeprefix("moves ")
        text = f"{thing(1)} {verb} in front of {thing(0)} to the {way}"
    elif arrangement == "pair":
        relation = RELATIONS[int(still.relation[row])]
        first = luck.randrange(2)
        if relation == "left of" and luck.random() < 0.4:
            # In the order of reading, as in the captions of pictures.
            text = f"{thing(0)}{doing(0)} and {thing(1)}{doing(1)}"
        else:
            where = luck.choice(_RELATED[relation][first])
            other = f"{thing(1 - first)}{doing(1 - first, PROGRESSIVE)}"
            text = f"{thing(first)}{doing(first)} {where} {other}"
    else:
        text = f"{thing(0)}{doing(0)}"
    return text + background_words(list(BACKGROUNDS)[int(still.background[row])], luck)
