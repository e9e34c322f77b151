"""What an object may do in a clip, as its state at the end of each slot.

All lengths are in cells, the size of a token: at the end of a slot an object stands on their
raster, so that what a clip's tokens have to say of it is what a picture's have. In between it goes
on evenly. ``Lane`` is the part of the picture that an object keeps to.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

SPEEDS = ("slowly", "quickly")
CELLS_A_SLOT = {"slowly": 1, "quickly": 2}


class Lane(NamedTuple):
    """A rectangle of cells."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class State:
    """Where an object stands (its upper left corner and side, in cells), how opaque it is, and by
    how many quarter turns it is turned clockwise."""

    x: int
    y: int
    side: int
    alpha: float = 1.0
    turns: float = 0.0


# A path is a state for each slot end, one more than there are slots.
Path = list[State]
Choose = Callable[[random.Random, Lane, int, int, str | None], Path]


def _anywhere(lane: Lane, side: int) -> bool:
    return True


def _along(axis: int) -> Callable[[Lane, int], bool]:
    return lambda lane, side: lane[2 + axis] > side


@dataclass(frozen=True)
class Motion:
    """A kind of motion. ``choose`` takes the luck, the lane, the side of the object, the number of
    slots and the speed, and gives a path; ``fits`` tells whether a lane has room for it."""

    name: str
    choose: Choose
    fits: Callable[[Lane, int], bool] = _anywhere
    axis: int | None = None  # of motions that have a speed: 0 across, 1 down
    weight: float = 1.0
    fewest_slots: int = 1


def _corner(luck: random.Random, lane: Lane, side: int) -> tuple[int, int]:
    return (
        luck.randint(lane.x, lane.x + lane.width - side),
        luck.randint(lane.y, lane.y + lane.height - side),
    )


def _still(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
    return [State(*_corner(luck, lane, side), side)] * (slots + 1)


def _moves(axis: int, sign: int) -> Choose:
    def choose(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
        step = CELLS_A_SLOT[speed or "slowly"]
        room = lane[2 + axis] - side
        # At the border it comes to rest.
        moving = luck.randint(min(2, slots, room // step), min(slots, room // step))
        way = moving * step
        ahead = way if moving < slots else luck.randint(way, room)
        corner = list(_corner(luck, lane, side))
        corner[axis] = lane[axis] + (room - ahead if sign > 0 else ahead)
        path = []
        for slot in range(slots + 1):
            at = list(corner)
            at[axis] += sign * step * min(slot, moving)
            path.append(State(at[0], at[1], side))
        return path

    return choose


def _bounces(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
    """To a border and back, once."""
    rooms = (lane.width - side, lane.height - side)
    axis = luck.choice([axis for axis in (0, 1) if rooms[axis] >= 1])
    step = 2 if rooms[axis] >= 2 else 1
    there = luck.randint(1, max(1, min(slots - 1, rooms[axis] // step)))
    low = luck.random() < 0.5
    corner = list(_corner(luck, lane, side))
    path = []
    for slot in range(slots + 1):
        # Back it goes as far as there is room.
        away = abs(there - slot) if slot <= there else min(slot - there, rooms[axis] // step)
        at = list(corner)
        at[axis] = lane[axis] + (step * away if low else rooms[axis] - step * away)
        path.append(State(at[0], at[1], side))
    return path


def _resized(growing: bool) -> Choose:
    """Two cells wider or narrower around its centre, in one slot."""

    def choose(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
        small = luck.choice([s for s in (3, 4) if s + 2 <= min(lane.width, lane.height)])
        x, y = _corner(luck, lane, small + 2)
        when = luck.randint(1, slots)
        grown = [(slot >= when) == growing for slot in range(slots + 1)]
        return [State(x + 1 - g, y + 1 - g, small + 2 * g) for g in grown]

    return choose


def _roomy(lane: Lane, side: int) -> bool:
    return min(lane.width, lane.height) >= 5


def _faded(alphas: Callable[[random.Random, int], list[float]]) -> Choose:
    def choose(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
        still = State(*_corner(luck, lane, side), side)
        return [replace(still, alpha=alpha) for alpha in alphas(luck, slots)]

    return choose


def _ramp(luck: random.Random, slots: int) -> list[float]:
    return [slot / slots for slot in range(slots + 1)]


def _switch(luck: random.Random, slots: int) -> list[float]:
    when = luck.randint(1, slots)
    return [float(slot >= when) for slot in range(slots + 1)]


def _backwards(
    alphas: Callable[[random.Random, int], list[float]],
) -> Callable[[random.Random, int], list[float]]:
    return lambda luck, slots: alphas(luck, slots)[::-1]


def _spins(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
    still = State(*_corner(luck, lane, side), side)
    return [replace(still, turns=float(slot)) for slot in range(slots + 1)]


def _jumps(luck: random.Random, lane: Lane, side: int, slots: int, speed: str | None) -> Path:
    """Up in one slot, down in the next, and again."""
    height = min(2, lane.height - side)
    x = luck.randint(lane.x, lane.x + lane.width - side)
    ground = luck.randint(lane.y + height, lane.y + lane.height - side)
    return [State(x, ground - height * (slot % 2), side) for slot in range(slots + 1)]


MOTIONS = {
    motion.name: motion
    for motion in (
        Motion("still", _still, weight=1.5),
        Motion("moves left", _moves(0, -1), _along(0), axis=0, weight=2),
        Motion("moves right", _moves(0, 1), _along(0), axis=0, weight=2),
        Motion("moves up", _moves(1, -1), _along(1), axis=1, weight=2),
        Motion("moves down", _moves(1, 1), _along(1), axis=1, weight=2),
        # Of all motions a model learns this one last.
        Motion(
            "bounces",
            _bounces,
            lambda lane, side: max(lane[2:]) > side,
            weight=3,
            fewest_slots=2,
        ),
        Motion("grows", _resized(True), _roomy, weight=1.5),
        Motion("shrinks", _resized(False), _roomy, weight=1.5),
        Motion("fades in", _faded(_ramp), fewest_slots=2),
        Motion("fades out", _faded(_backwards(_ramp)), fewest_slots=2),
        Motion("appears", _faded(_switch)),
        Motion("disappears", _faded(_backwards(_switch))),
        Motion("spins", _spins, weight=1.5),
        Motion("jumps", _jumps, _along(1), fewest_slots=2),
    )
}
