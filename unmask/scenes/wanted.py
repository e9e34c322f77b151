"""What a picture is asked to show, and what of it is not there."""

import math
from dataclasses import dataclass

from unmask.scenes.judge import Found, Sight

OVERLAP = 0.1  # a position needs an offset beyond this part of the two sides together
FAULTS = ("missing", "count", "position", "colours", "background")


@dataclass(frozen=True)
class Thing:
    """A noun, and its colour if one is asked for."""

    noun: str
    colour: str | None = None

    @property
    def phrase(self) -> str:
        """The words without an article: ``red apple``."""
        return f"{self.colour} {self.noun}" if self.colour else self.noun


@dataclass(frozen=True)
class Wanted:
    """``things`` are one, of which ``count`` are asked for, or several of different nouns;
    ``position`` may tell where the first of two is, seen from the second: to the left of, to the
    right of, above or below it."""

    things: tuple[Thing, ...]
    count: int = 1
    position: str | None = None
    background: str | None = None


def found_of(wanted: Wanted, sight: Sight) -> list[list[Found]]:
    """The whole objects of each thing's noun, the surest first."""
    return [[found for found in sight.objects if found.noun == wish.noun] for wish in wanted.things]


def faults(wanted: Wanted, sight: Sight) -> tuple[str, ...]:
    """What of a wish is not there, of ``FAULTS``.

    missing: nothing of a noun. count: fewer or more than asked, if that is more than one. position:
    the surest of two stand otherwise. colours: of as many of the surest as asked, one has another
    colour, or two. Beside one object that was asked for there may be more.
    """
    found = found_of(wanted, sight)
    every = all(found)
    holds = {
        "missing": not every,
        "count": every and wanted.count > 1 and len(found[0]) != wanted.count,
        "position": every
        and wanted.position is not None
        and not relation_holds(wanted.position, found[0][0], found[1][0]),
        "colours": any(
            thing.colour is not None and each.colours != (thing.colour,)
            for thing, objects in zip(wanted.things, found, strict=True)
            for each in objects[: wanted.count]
        ),
        "background": wanted.background not in (None, sight.background),
    }
    return tuple(name for name in FAULTS if holds[name])


def relation_holds(position: str, first: Found, second: Found) -> bool:
    """Whether ``first`` is at this position, seen from ``second``."""
    reach = OVERLAP * (first.side + second.side)
    across, down = (_shrunk(first.x - second.x, reach), _shrunk(first.y - second.y, reach))
    length = max(math.hypot(across, down), 1e-6)
    holds = {
        "to the left of": across / length < -0.5,
        "to the right of": across / length > 0.5,
        "above": down / length < -0.5,
        "below": down / length > 0.5,
    }
    return holds[position]


def _shrunk(offset: float, reach: float) -> float:
    """An offset, nearer to 0 by ``reach``."""
    return max(abs(offset) - reach, 0.0) * (1 if offset > 0 else -1)
