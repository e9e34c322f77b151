"""Tracks: what is found frame after frame, linked where it is the same thing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from unmask.scenes.judge import Found, Sight

REACH = 8.0  # pixels: the fastest go 4 a frame, and the judge finds centres on a raster of 4
FASTEST = 4.0  # pixels a frame, for what was not seen meanwhile
OTHER = 12.0  # pixels that another noun counts as: of two that cross, each goes on as what it was
WHOLE = (
    0.5  # probability: frames speak for each other, so one alone need not be as sure as a picture
)


class Seen(NamedTuple):
    """Something in a frame; ``clear`` if it is an object in a picture too."""

    frame: int
    found: Found
    clear: bool

    @property
    def whole(self) -> bool:
        """Whether it is one among others."""
        return self.clear or self.found.whole >= WHOLE


@dataclass
class Track:
    """One thing, in the order of frames; ``jumped`` if it was somewhere else all of a sudden."""

    seen: list[Seen] = field(default_factory=list)
    jumped: bool = False

    @property
    def whole(self) -> list[Seen]:
        """Where it is a whole object, not a broken one."""
        return [seen for seen in self.seen if seen.whole]

    @property
    def clear(self) -> list[Seen]:
        """Where it is an object in a picture too."""
        return [seen for seen in self.seen if seen.clear]

    @property
    def noun(self) -> str:
        """What it is most of the time, where that is clear if it ever is."""
        return _commonest(seen.found.noun for seen in self.clear or self.seen)

    def share(self, noun: str) -> float:
        """In what part of the frames in which it is clear it is that."""
        return _share(seen.found.noun == noun for seen in self.clear)

    def colour_share(self, colour: str) -> float:
        """In what part of the frames in which it is clear it has that colour alone."""
        return _share(seen.found.colours == (colour,) for seen in self.clear)

    def series(self, whole: bool = True) -> tuple[list[float], list[float], list[float]]:
        """x, y and side over the frames in which it is (whole), each the median of three."""
        chosen = [seen.found for seen in (self.whole if whole else self.seen)]
        columns = ([f.x for f in chosen], [f.y for f in chosen], [f.side for f in chosen])
        x, y, side = (_smooth(column) for column in columns)
        return x, y, side

    @property
    def box(self) -> tuple[float, float, float]:
        """Its centre and side, the median over all frames."""
        x, y, side = self.series(whole=bool(self.whole))
        return median(x), median(y), median(side)


def link(sights: Sequence[Sight], frames: Sequence[int] | None = None) -> list[Track]:
    """The tracks of a clip, one sight a frame, in these frames, all if None.

    The nearest pairs of a track and something new are linked first, within what it can have moved
    since it was last seen. A noun that is left over is then the track of that noun that is left
    over, wherever it was: it has jumped.
    """
    tracks: list[Track] = []
    for frame in range(len(sights)) if frames is None else frames:
        sight = sights[frame]
        found = [
            *(Seen(frame, thing, True) for thing in sight.objects),
            *(Seen(frame, thing, False) for thing in sight.broken),
        ]
        waiting = list(tracks)
        for gate in (True, False):
            pairs = sorted(
                (
                    (_cost(track, new), place, number)
                    for place, track in enumerate(waiting)
                    for number, new in enumerate(found)
                    if (_near(track, new) if gate else track.noun == new.found.noun and new.whole)
                ),
            )
            linked_tracks: set[int] = set()
            linked_found: set[int] = set()
            for _, place, number in pairs:
                if place in linked_tracks or number in linked_found:
                    continue
                linked_tracks.add(place)
                linked_found.add(number)
                waiting[place].jumped |= not gate
                waiting[place].seen.append(found[number])
            waiting = [t for place, t in enumerate(waiting) if place not in linked_tracks]
            found = [new for number, new in enumerate(found) if number not in linked_found]
        tracks += [Track([new]) for new in found]
    return tracks


def _distance(track: Track, new: Seen) -> float:
    last = track.seen[-1].found
    return max(abs(last.x - new.found.x), abs(last.y - new.found.y))


def _near(track: Track, new: Seen) -> bool:
    missed = new.frame - track.seen[-1].frame - 1
    return _distance(track, new) <= REACH + FASTEST * missed


def _cost(track: Track, new: Seen) -> float:
    return _distance(track, new) + OTHER * (track.noun != new.found.noun)


def _commonest(names: Iterable[str]) -> str:
    return Counter(names).most_common(1)[0][0]


def _share(holds: Iterable[bool]) -> float:
    values = list(holds)
    return sum(values) / len(values) if values else 0.0


def _smooth(values: list[float]) -> list[float]:
    ends = [values[:1], values[-1:]]
    padded = [*ends[0], *values, *ends[1]]
    return [median(padded[place : place + 3]) for place in range(len(values))]
