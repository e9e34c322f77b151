"""Prompts whose fulfilment a judge can check, in the six categories of GenEval (arXiv 2310.11513),
and a seventh of three objects where a world has them.

Prompt i of a category depends on the seed, the category and i alone: fewer prompts are the first
of more, and every setting is asked the same.
"""

import hashlib
import random
from dataclasses import dataclass, replace

import torch

from unmask.errors import ConfigError, RequestError
from unmask.scenes.captions import plural, with_article
from unmask.scenes.composer import SceneComposer
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.truth import SceneConfig, Scenes
from unmask.scenes.vocabulary import (
    BACKGROUND_NAMES,
    COLOUR_NAMES,
    KINDS,
    RELATIONS,
    SHADES,
    held_out,
)
from unmask.scenes.wanted import Thing, Wanted

CATEGORIES = ("single", "two objects", "counting", "colours", "position", "attribution")
THREE = "three objects"
COLOURED = ("colours", "attribution")  # in which colours count
POSITIONS = {
    # The words, the relation of the scenes, and whether it holds from the second to the first.
    "to the left of": ("left of", False),
    "to the right of": ("left of", True),
    "above": ("above", False),
    "below": ("above", True),
}
NUMBERS = {2: "two", 3: "three", 4: "four"}
MOST_TRIES = 100_000
SCENES = SceneConfig(size=64)  # what prompts are about unless it is said


class Asked:
    """A prompt, of a picture or of a clip, with a ``key`` that names it among all of a seed."""

    key: str
    text: str
    category: str
    held_out: bool

    def image_seed(self, seed: int, image: int) -> int:
        """The seed of an image of this prompt: the same in every setting."""
        digest = hashlib.sha256(f"{seed}/{self.key}/{image}".encode()).digest()
        return int.from_bytes(digest[:4], "big")


@dataclass(frozen=True)
class Prompt(Asked):
    """A prompt and what a picture must show.

    ``things`` are one, of which ``count`` are asked for, or more; of two ``position`` (a key of
    ``POSITIONS``) may tell where the first is, seen from the second. Colours are judged in the
    categories colours and attribution only. ``held_out``: some pair of a colour and a noun, or the
    relation, is one that training never draws.
    """

    key: str
    text: str
    category: str
    things: tuple[Thing, ...]
    count: int = 1
    position: str | None = None
    background: str | None = None
    held_out: bool = False

    @property
    def judges_colours(self) -> bool:
        """Whether colours count."""
        return self.category in COLOURED

    @property
    def wanted(self) -> Wanted:
        """All that it asks for, whether it counts or not."""
        return Wanted(self.things, self.count, self.position, self.background)


def check_enough(nouns: tuple[str, ...], percent: int, held_out_count: int) -> None:
    """RequestError if there are no two nouns, or nothing that could be held out."""
    if len(nouns) < 2:
        raise RequestError(f"nouns: {len(nouns)}; the categories with two objects need 2", "nouns")
    if held_out_count and percent < 1:
        raise RequestError(
            f"held_out_percent is {percent}: nothing is held out to ask for", "held_out_percent"
        )


def categories_of(scenes: SceneConfig) -> tuple[str, ...]:
    """The categories of prompts about such scenes."""
    return (*CATEGORIES, THREE) if scenes.trios else CATEGORIES


def make_prompts(
    nouns: tuple[str, ...],
    percent: int,
    seed: int,
    count: int,
    held_out_count: int = 0,
    scenes: SceneConfig = SCENES,
) -> list[Prompt]:
    """``count`` prompts a category that training may have met, then ``held_out_count`` a category
    that it cannot have met, ``percent`` of the combinations being held out. They ask for what
    ``scenes`` show.

    RequestError if there are no two nouns, or nothing that could be held out.
    """
    check_enough(nouns, percent, held_out_count)
    return [
        _make_prompt(category, nouns, percent, seed, number, unseen, scenes)
        for unseen, prompts in ((False, count), (True, held_out_count))
        for category in categories_of(scenes)
        for number in range(prompts)
    ]


def fitting_scenes(prompts: list[Prompt], renderer: SceneRenderer, index: int) -> Scenes:
    """One scene a prompt that shows what it asks for, in the layouts that training draws.

    Another ``index`` gives other scenes. ConfigError if the bank lacks a noun.
    """
    nouns = renderer.bank.nouns
    unknown = sorted({thing.noun for prompt in prompts for thing in prompt.things} - set(nouns))
    if unknown:
        raise ConfigError(f"the sprites show no {', '.join(unknown)}; give those of the training")
    rng = random.Random(index)
    pools = {
        kind: _layouts(renderer, kind, 8 * len(prompts) + 64, index) for kind in range(len(KINDS))
    }
    used = dict.fromkeys(pools, 0)
    rows = []
    for prompt in prompts:
        alone = "count" if prompt.count > 1 else "single"
        kind = KINDS.index((alone, "pair", "trio")[len(prompt.things) - 1])
        while not _fits(pools[kind], used[kind] % len(pools[kind].kind), prompt):
            used[kind] += 1
        rows.append(_filled(pools[kind], used[kind] % len(pools[kind].kind), prompt, renderer, rng))
        used[kind] += 1
    return Scenes.joined(rows)


def _make_prompt(
    category: str,
    nouns: tuple[str, ...],
    percent: int,
    seed: int,
    number: int,
    unseen: bool,
    scenes: SceneConfig,
) -> Prompt:
    key = f"{category}/{'held-out' if unseen else 'seen'}/{number}"
    rng = random.Random(f"{seed}/{key}")
    for _ in range(MOST_TRIES):
        prompt = _random_prompt(category, nouns, percent, rng, scenes)
        if prompt.held_out == unseen:
            return replace(prompt, key=key)
    raise RequestError(
        f"held_out_percent is {percent}: no prompt of {category!r} is "
        f"{'held out' if unseen else 'left for training'} with {len(nouns)} nouns",
        "held_out_percent",
    )


def _random_prompt(
    category: str,
    nouns: tuple[str, ...],
    percent: int,
    rng: random.Random,
    scenes: SceneConfig,
) -> Prompt:
    several = {"two objects": 2, "position": 2, "attribution": 2, THREE: 3}.get(category, 1)
    judged = category in COLOURED
    colours: list[str] | list[None] = [None] * 3
    if judged or rng.random() < 0.5:
        colours = rng.sample(scenes.colours, max(several, 2))
    chosen = zip(rng.sample(nouns, several), colours, strict=False)
    things = tuple(Thing(noun, colour) for noun, colour in chosen)
    numbers = [number for number in NUMBERS if number <= scenes.most]
    count = rng.choice(numbers) if category == "counting" else 1
    position = rng.choice(list(POSITIONS)) if category == "position" else None
    background = rng.choice(scenes.backgrounds) if rng.random() < 0.5 else None
    if background in SHADES and any(thing.colour == background for thing in things):
        background = None  # what is white cannot be seen on white, and is never drawn there
    if several == 3:
        first, second, third = (with_article(thing.phrase) for thing in things)
        text = f"{first}, {second} and {third}"
    elif several == 2:
        first, second = (with_article(thing.phrase) for thing in things)
        text = f"{first} {position or 'and'} {second}"
    elif count > 1:
        colour = f"{things[0].colour} " if things[0].colour else ""
        text = f"{NUMBERS[count]} {colour}{plural(things[0].noun)}"
    else:
        text = with_article(things[0].phrase)
    if background:
        text += f" on {with_article(background + ' background')}"
    unseen = any(thing.colour and held_out(percent, thing.colour, thing.noun) for thing in things)
    if position:
        relation, turned = POSITIONS[position]
        a, b = (thing.noun for thing in (reversed(things) if turned else things))
        unseen = unseen or held_out(percent, a, relation, b)
    return Prompt("", text, category, things, count, position, background, unseen)


def _layouts(renderer: SceneRenderer, kind: int, count: int, index: int) -> Scenes:
    """Scenes of one kind, for their boxes."""
    weights = tuple(float(other == kind) for other in range(len(KINDS)))
    config = replace(renderer.config, kinds=weights, most=max(renderer.config.most, 3))
    return SceneComposer(renderer.bank, config).compose(count, index)


def _fits(layouts: Scenes, row: int, prompt: Prompt) -> bool:
    if prompt.position:
        return RELATIONS[int(layouts.relation[row])] == POSITIONS[prompt.position][0]
    return prompt.count == 1 or int((layouts.nouns[row] >= 0).sum()) == prompt.count


def _filled(
    layouts: Scenes, row: int, prompt: Prompt, renderer: SceneRenderer, rng: random.Random
) -> Scenes:
    """The layout of a row with what the prompt asks for in it."""
    turned = prompt.position is not None and POSITIONS[prompt.position][1]
    things = list(reversed(prompt.things)) if turned else list(prompt.things)
    things *= prompt.count
    scene = layouts.rows(torch.tensor([row]))
    sprites: dict[str, int] = {}
    for item, thing in enumerate(things):
        noun = renderer.bank.nouns.index(thing.noun)
        choices = renderer.composer.sprites_of[noun].tolist()
        scene.nouns[0, item] = noun
        scene.sprites[0, item] = sprites.setdefault(thing.noun, rng.choice(choices))
        scene.colours[0, item] = COLOUR_NAMES.index(thing.colour) if thing.colour else -1
    if prompt.background:
        scene.background[0] = BACKGROUND_NAMES.index(prompt.background)
    return scene
