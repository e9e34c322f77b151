"""Making up clips: what stands where, and what it does, before anything is drawn.

As with pictures, batch ``index`` depends on the seed and the index alone, and some combinations
never come up unless they are asked for.
"""

import random
from dataclasses import dataclass, replace

import torch

from unmask.errors import ConfigError
from unmask.scenes.moving.motions import MOTIONS, SPEEDS, Lane, Path, State
from unmask.scenes.moving.truth import ARRANGEMENTS, CELLS, MOTION_NAMES, MovingConfig, MovingScenes
from unmask.scenes.seeds import batch_seed
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import Scenes
from unmask.scenes.vocabulary import (
    BACKGROUNDS,
    COLOUR_NAMES,
    COLOURS,
    KINDS,
    MORE_COLOURS,
    RELATIONS,
    held_out,
)

MOST_OBJECTS = 3
TOGETHER = tuple(name for name in MOTIONS if name not in ("bounces", "grows", "shrinks"))
WHOLE = Lane(0, 0, CELLS, CELLS)
# The halves of a pair, by the relation of the first to the second.
HALVES = {
    "left of": (Lane(0, 0, 4, CELLS), Lane(4, 0, 4, CELLS)),
    "above": (Lane(0, 0, CELLS, 4), Lane(0, 4, CELLS, 4)),
}


@dataclass(frozen=True)
class _Thing:
    """One object of a clip that is being made up."""

    noun: int
    colour: int  # -1: natural
    sprite: int
    motion: str
    path: Path
    speed: str | None = None


class MovingComposer:
    """Makes up clips of the sprites of a bank. ConfigError if what is held out leaves a noun with
    no colour, no direction to move in, or no partner."""

    def __init__(self, bank: SpriteBank, config: MovingConfig) -> None:
        self.bank, self.config = bank, config
        percent = config.scenes.held_out_percent
        self._sprites = [
            (bank.noun_of == i).nonzero().flatten().tolist() for i in range(len(bank.nouns))
        ]
        self._colours, self._more_colours = (
            [[c for c in names if not held_out(percent, c, noun)] for noun in bank.nouns]
            for names in (COLOURS, MORE_COLOURS)
        )
        # By the relation of a noun to them, and without one.
        self._partners = {
            relation: [
                [
                    place
                    for place, other in enumerate(bank.nouns)
                    if other != noun and not (relation and held_out(percent, noun, relation, other))
                ]
                for noun in bank.nouns
            ]
            for relation in (None, *RELATIONS)
        }
        self._motions = [
            [
                motion.name
                for motion in MOTIONS.values()
                if motion.fewest_slots <= config.slots
                and (motion.name == "still" or not held_out(percent, noun, motion.name))
            ]
            for noun in bank.nouns
        ]
        for place, noun in enumerate(bank.nouns):
            there = (
                self._colours[place],
                not config.scenes.more_colours or self._more_colours[place],
                set(self._motions[place]) & {"moves left", "moves right"},
                *(partners[place] for partners in self._partners.values()),
            )
            if not all(there):
                raise ConfigError(
                    f"held_out_percent: {noun} is left with no colour, direction or partner"
                )

    def compose(self, count: int, index: int) -> MovingScenes:
        """Batch ``index`` of ``count`` clips."""
        luck = random.Random(batch_seed(self.config.scenes.seed, index))
        weights = list(self.config.arrangements)
        if self.config.slots < 3:  # too short to pass by
            weights[ARRANGEMENTS.index("passing")] = 0
        clips = []
        for _ in range(count):
            arrangement = luck.choices(ARRANGEMENTS, weights)[0]
            relation = None
            if arrangement == "single":
                things = self._single(luck)
            elif arrangement == "pair":
                relation = luck.choice(RELATIONS)
                things = self._pair(luck, relation)
            elif arrangement == "passing":
                things = self._passing(luck)
            else:
                things = self._together(luck)
            clips.append((arrangement, relation, luck.randrange(len(BACKGROUNDS)), things))
        return _gathered(clips, self.config.slots)

    def _looks(self, luck: random.Random, noun: int) -> tuple[int, int]:
        """A colour, -1 for natural, and a sprite."""
        scenes, sprite = self.config.scenes, luck.choice(self._sprites[noun])
        if luck.random() < scenes.natural:
            return -1, sprite
        more = luck.random() < scenes.more_colours
        names = (self._more_colours if more else self._colours)[noun]
        return COLOUR_NAMES.index(luck.choice(names)), sprite

    def _choose(
        self, luck: random.Random, noun: int, lane: Lane, side: int, among: tuple[str, ...]
    ) -> _Thing:
        """An object of that noun that does one of ``among``, as far as it may and has room to."""
        fitting = [
            motion
            for name in self._motions[noun]
            if name in among and (motion := MOTIONS[name]).fits(lane, side)
        ]
        motion = luck.choices(fitting, [motion.weight for motion in fitting])[0]
        colour, sprite = self._looks(luck, noun)
        speed = None
        if motion.axis is not None:
            # Quickly for two slots, or it is over at once.
            speed = luck.choice(SPEEDS) if lane[2 + motion.axis] - side >= 4 else "slowly"
        path = motion.choose(luck, lane, side, self.config.slots, speed)
        return _Thing(noun, colour, sprite, motion.name, path, speed)

    def _single(self, luck: random.Random) -> list[_Thing]:
        noun = luck.randrange(len(self.bank.nouns))
        return [self._choose(luck, noun, WHOLE, luck.choice((3, 3, 4, 5)), MOTION_NAMES)]

    def _pair(self, luck: random.Random, relation: str) -> list[_Thing]:
        """Two objects, of which one does something."""
        nouns = [luck.randrange(len(self.bank.nouns))]
        nouns.append(luck.choice(self._partners[relation][nouns[0]]))
        mover = luck.randrange(2)
        side = luck.choice((3, 3, 4))
        things = []
        for place, (noun, lane) in enumerate(zip(nouns, HALVES[relation], strict=True)):
            among = MOTION_NAMES[1:] if place == mover else ("still",)
            things.append(self._choose(luck, noun, lane, side, among))
        return things

    def _passing(self, luck: random.Random) -> list[_Thing]:
        """One that stands still, and one that goes past it, in front."""
        noun = luck.randrange(len(self.bank.nouns))
        directions = [d for d in ("moves left", "moves right") if d in self._motions[noun]]
        motion = luck.choice(directions)
        back = luck.choice(self._partners[None][noun])
        side = luck.choice((3, 4))
        x, y = luck.randint(2, 6 - side), luck.randint(0, CELLS - side)
        colour, sprite = self._looks(luck, back)
        slots = self.config.slots
        behind = _Thing(back, colour, sprite, "still", [State(x, y, side)] * (slots + 1))
        level = luck.randint(max(y - 1, 0), min(y + side - 2, CELLS - 3))
        across = [min(2 * slot, CELLS - 3) for slot in range(slots + 1)]
        if motion == "moves left":
            across = [CELLS - 3 - at for at in across]
        colour, sprite = self._looks(luck, noun)
        path = [State(at, level, 3) for at in across]
        return [behind, _Thing(noun, colour, sprite, motion, path, "quickly")]

    def _together(self, luck: random.Random) -> list[_Thing]:
        """Two side by side or one above the other, or three in a triangle, that look alike and do
        the same."""
        number = luck.choice((2, 3))
        noun = luck.randrange(len(self.bank.nouns))
        side = 3
        if number == 3:
            shifts = [(0, 0), (4, 0), (2, 3)]
        else:
            shifts = [(0, 0), luck.choice(((4, 0), (0, 4)))]
        # The lane of the first leaves room for the others.
        right, down = max(x for x, _ in shifts), max(y for _, y in shifts)
        one = self._choose(luck, noun, Lane(0, 0, CELLS - right, CELLS - down), side, TOGETHER)
        things = []
        for x, y in shifts:
            path = [replace(state, x=state.x + x, y=state.y + y) for state in one.path]
            things.append(replace(one, path=path))
        return things


def _gathered(clips: list[tuple[str, str | None, int, list[_Thing]]], slots: int) -> MovingScenes:
    """Clips as tensors."""
    count = len(clips)
    ids = {
        name: torch.full((count, MOST_OBJECTS), -1)
        for name in ("sprites", "nouns", "colours", "motion", "speed")
    }
    boxes = torch.zeros(count, MOST_OBJECTS, slots + 1, 4)
    alpha = torch.zeros(count, MOST_OBJECTS, slots + 1)
    turns = torch.zeros(count, MOST_OBJECTS, slots + 1)
    for row, (_, _, _, things) in enumerate(clips):
        for item, thing in enumerate(things):
            ids["sprites"][row, item] = thing.sprite
            ids["nouns"][row, item] = thing.noun
            ids["colours"][row, item] = thing.colour
            ids["motion"][row, item] = MOTION_NAMES.index(thing.motion)
            ids["speed"][row, item] = -1 if thing.speed is None else SPEEDS.index(thing.speed)
            path = [(s.x, s.y, s.x + s.side, s.y + s.side) for s in thing.path]
            boxes[row, item] = torch.tensor(path) / CELLS
            alpha[row, item] = torch.tensor([s.alpha for s in thing.path])
            turns[row, item] = torch.tensor([s.turns for s in thing.path])
    relations = [
        -1 if relation is None else RELATIONS.index(relation) for _, relation, _, _ in clips
    ]
    still = Scenes(
        kind=torch.tensor(
            [KINDS.index("pair" if name == "passing" else name) for name, *_ in clips]
        ),
        background=torch.tensor([background for _, _, background, _ in clips]),
        relation=torch.tensor(relations),
        place=torch.full((count,), -1),
        sprites=ids["sprites"],
        nouns=ids["nouns"],
        colours=ids["colours"],
        boxes=boxes[:, :, 0],
        style=torch.zeros(count, dtype=torch.long),
        shift=torch.zeros(count, dtype=torch.long),
        painting=torch.zeros(count, 5),
    )
    arrangement = torch.tensor([ARRANGEMENTS.index(name) for name, *_ in clips])
    return MovingScenes(still, arrangement, ids["motion"], ids["speed"], boxes, alpha, turns)
