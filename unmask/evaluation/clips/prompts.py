"""Prompts of clips whose fulfilment a judge can check, worded and laid out as training does it.

Prompt i of a category depends on the seed, the category and i alone, as with pictures, and not on
the sprites: each is a scene of the composer with its caption, so its true clip is at hand.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unmask.errors import ConfigError, RequestError
from unmask.evaluation.prompts import Asked, check_enough
from unmask.scenes.captions import COLOUR_SYNONYMS
from unmask.scenes.moving.captions import clip_captions
from unmask.scenes.moving.composer import MovingComposer
from unmask.scenes.moving.motions import SPEEDS
from unmask.scenes.moving.truth import ARRANGEMENTS, MOTION_NAMES, MovingConfig, MovingScenes
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import BACKGROUNDS, COLOUR_NAMES, RELATIONS, held_out
from unmask.scenes.wanted import Thing

# What a single object does, or how several stand to each other.
_OF_MOTION = {
    "still": "still",
    "moves left": "moves",
    "moves right": "moves",
    "moves up": "moves",
    "moves down": "moves",
    "bounces": "bounces",
    "grows": "grows",
    "shrinks": "grows",
    "fades in": "fades",
    "fades out": "fades",
    "appears": "appears",
    "disappears": "appears",
    "spins": "spins",
    "jumps": "jumps",
}
CATEGORIES = (*dict.fromkeys(_OF_MOTION.values()), *ARRANGEMENTS[1:])
SINGLE = ARRANGEMENTS.index("single")
SCENES_AT_ONCE = 32
MOST_TRIES = 400  # batches of scenes


@dataclass(frozen=True)
class Actor(Thing):
    """A thing, what it does, and how quickly, if that is something that has a speed; ``way`` (left,
    right, up or down) is where it must bounce first, if the text tells."""

    motion: str = "still"
    speed: str | None = None
    way: str | None = None


@dataclass(frozen=True, eq=False)
class ClipPrompt(Asked):
    """A prompt and what a clip must show.

    ``actors`` are in the order of ``scene``, a batch of one: further ones stand in front. In a
    count all are alike. ``position`` (of ``RELATIONS``) tells where the first is, seen from the
    second, where the text says so; ``background`` is that of the text. ``held_out``: a pair of a
    noun with a colour or a motion, or the relation, is one that training never draws.
    """

    key: str
    text: str
    category: str
    actors: tuple[Actor, ...]
    scene: MovingScenes
    position: str | None = None
    background: str | None = None
    held_out: bool = False


def make_clip_prompts(
    nouns: tuple[str, ...], percent: int, slots: int, seed: int, count: int, held_out_count: int = 0
) -> list[ClipPrompt]:
    """``count`` prompts a category that training may have met, then ``held_out_count`` a category
    that it cannot have met, ``percent`` of the combinations being held out.

    RequestError if there are no two nouns, or a category has none of these.
    """
    check_enough(nouns, percent, held_out_count)
    return [
        prompt
        for unseen, wanted in ((False, count), (True, held_out_count))
        for category in CATEGORIES
        for prompt in _of_category(category, nouns, percent, slots, seed, wanted, unseen)
    ]


def true_scenes(prompts: Sequence[ClipPrompt], bank: SpriteBank, index: int) -> MovingScenes:
    """The scenes of prompts with sprites of ``bank``; another ``index`` may choose other ones of
    the same noun. ConfigError if the bank lacks a noun."""
    named = [[actor.noun for actor in prompt.actors] for prompt in prompts]
    unknown = sorted({noun for nouns in named for noun in nouns} - set(bank.nouns))
    if unknown:
        raise ConfigError(f"the sprites show no {', '.join(unknown)}; give those of the training")
    luck = random.Random(index)
    choices = [(bank.noun_of == place).nonzero().flatten() for place in range(len(bank.nouns))]
    scenes = MovingScenes.joined([prompt.scene for prompt in prompts])
    sprites = scenes.still.sprites.clone()
    for row, nouns in enumerate(named):
        chosen = {
            noun: int(luck.choice(choices[bank.nouns.index(noun)])) for noun in dict.fromkeys(nouns)
        }
        sprites[row, : len(nouns)] = torch.tensor([chosen[noun] for noun in nouns])
    return replace(scenes, still=replace(scenes.still, sprites=sprites))


def _of_category(
    category: str,
    nouns: tuple[str, ...],
    percent: int,
    slots: int,
    seed: int,
    count: int,
    unseen: bool,
) -> Iterator[ClipPrompt]:
    """Prompts of scenes that come up anyhow, as far as they are of this category."""
    arrangement = category if category in ARRANGEMENTS else "single"
    weights = tuple(float(name == arrangement) for name in ARRANGEMENTS)
    kind = f"{category}/{'held-out' if unseen else 'seen'}"
    scenes = SceneConfig(
        size=64,
        seed=random.Random(f"{seed}/{kind}").randrange(2**31),
        natural=0.2,
        # The hash of the words is what decides; the composer only must not leave them out.
        held_out_percent=0 if unseen else percent,
    )
    config = MovingConfig(scenes, slots=slots, arrangements=weights)
    composer = MovingComposer(SpriteBank.of_words(nouns), config)
    made = 0
    for index in range(MOST_TRIES):
        if made == count:
            return
        batch = composer.compose(SCENES_AT_ONCE, index)
        texts = clip_captions(batch, nouns, scenes.seed + index)
        for row in range(SCENES_AT_ONCE):
            prompt = _prompt(batch.rows(torch.tensor([row])), texts[row], nouns, percent)
            if made < count and prompt.category == category and prompt.held_out == unseen:
                yield replace(prompt, key=f"{kind}/{made}")
                made += 1
    if made < count:
        raise RequestError(
            f"held_out_percent is {percent}: no prompt of {category!r} is "
            f"{'held out' if unseen else 'left for training'} with {len(nouns)} nouns",
            "held_out_percent",
        )


def _prompt(scene: MovingScenes, text: str, nouns: tuple[str, ...], percent: int) -> ClipPrompt:
    still = scene.still
    actors = tuple(
        Actor(
            noun=nouns[int(noun)],
            colour=COLOUR_NAMES[int(colour)] if colour >= 0 else None,
            motion=MOTION_NAMES[int(motion)],
            speed=SPEEDS[int(speed)] if speed >= 0 else None,
            way=_told_way(scene, item, text),
        )
        for item, (noun, colour, motion, speed) in enumerate(
            zip(still.nouns[0], still.colours[0], scene.motion[0], scene.speed[0], strict=True)
        )
        if noun >= 0
    )
    arrangement = ARRANGEMENTS[int(scene.arrangement[0])]
    relation = RELATIONS[int(still.relation[0])] if still.relation[0] >= 0 else None
    ground = list(BACKGROUNDS)[int(still.background[0])]
    words = [ground, *COLOUR_SYNONYMS.get(ground, ())]
    told = any(text.endswith((f"{word} background", f" on {word}")) for word in words)
    combinations = [
        *((actor.colour, actor.noun) for actor in actors if actor.colour),
        *((actor.noun, actor.motion) for actor in actors if actor.motion != "still"),
        *([(actors[0].noun, relation, actors[1].noun)] if relation else []),
    ]
    return ClipPrompt(
        key="",
        text=text,
        category=_OF_MOTION[actors[0].motion] if arrangement == "single" else arrangement,
        actors=actors,
        scene=scene,
        # Named side by side, they stand in the order of reading, but that is not asked for.
        position=None if " and " in text else relation,
        background=ground if told else None,
        held_out=any(held_out(percent, *combination) for combination in combinations),
    )


def _told_way(scene: MovingScenes, item: int, text: str) -> str | None:
    """Where an object bounces first, if the text tells."""
    if scene.motion[0, item] != MOTION_NAMES.index("bounces") or scene.arrangement[0] != SINGLE:
        return None
    way = scene.first_way(0, item)
    return way if way is not None and f" {way}" in text else None
