"""Whether a track does what it was asked to do: one check a motion, that names what is wrong.

Centres are found on a raster of four pixels, and what moves goes eight at least: so a range below
``LEAST`` is none. What is faded or turned is seen in pixels, as the judge takes it for broken.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from unmask.evaluation.clips.tracks import Track
from unmask.scenes.moving.truth import SLOT

LEAST = 6.0  # pixels
RESIZED = 1.25  # sides that differ by less are one
SHRINKAGE = 1.15  # what a side may lose meanwhile although it grows
FASTER = 2 * math.sqrt(2)  # pixels a frame: between slowly, 2, and quickly, 4
THERE = 0.8  # part of the frames in which something must be whole where it should be there
GRADUAL = 6  # frames between nothing and all; what appears does so within a slot
FAINT, FULL = 0.15, 0.85  # opacities
LOST = 0.25  # of the opacity, that may be lost again although something fades in
ALIKE = 0.02  # levels in [0, 1]: what is turned and looks alike by this cannot be seen to turn
OFFSETS = range(-3, 4)  # pixels by which the judge may miss a centre

WAYS = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}  # axis and sign

# What is wrong with a track in frames (frames, 3, height, width) at that speed, or None.
Check = Callable[[Track, Tensor, str | None], str | None]


def lasts(track: Track, frames: int, first: int = 0, last: int | None = None) -> bool:
    """Whether a track is whole from ``first`` to ``last``, but for some frames."""
    end = frames - 1 if last is None else last
    inside = [seen.frame for seen in track.whole if first <= seen.frame <= end]
    return len(inside) >= THERE * (end - first + 1)


def rests(track: Track) -> bool:
    """Whether a track stays where it is, and as large."""
    x, y, side = track.series()
    return max(_range(x), _range(y)) < LEAST and max(side) < RESIZED * min(side)


def _still(track: Track, frames: Tensor, speed: str | None) -> str | None:
    if not lasts(track, len(frames)):
        return "vanish"
    return None if rests(track) else "wrong motion"


def _at_rest(track: Track, frames: Tensor) -> str | None:
    """What is wrong with a track that should be there throughout, and move."""
    if not lasts(track, len(frames)):
        return "vanish"
    return "frozen" if rests(track) else None


def _goes(axis: int, sign: int) -> Check:
    """The check of a motion along an axis, 0 across and 1 down."""

    def check(track: Track, frames: Tensor, speed: str | None) -> str | None:
        if tag := _at_rest(track, frames):
            return tag
        x, y, side = track.series()
        along, across = ((x, y), (y, x))[axis]
        way = sign * (along[-1] - along[0])
        if way <= -LEAST or _range(across) >= LEAST:
            return "wrong direction"
        steady = _backtrack([sign * at for at in along]) < LEAST
        if way < LEAST or not steady or max(side) >= RESIZED * min(side):
            return "wrong motion"
        if speed is not None:
            quick = _pace([seen.frame for seen in track.whole], along, len(frames)) > FASTER
            if quick != (speed == "quickly"):
                return "wrong speed"
        return None

    return check


def _bounces(track: Track, frames: Tensor, speed: str | None) -> str | None:
    if tag := _at_rest(track, frames):
        return tag
    across, down = _legs(track)
    one_way = sorted((across, down), key=len)
    return None if [len(legs) for legs in one_way] == [0, 2] else "wrong motion"


def begins(track: Track, way: str) -> bool:
    """Whether the first leg of a track goes that way."""
    axis, sign = WAYS[way]
    legs = _legs(track)[axis]
    return bool(legs) and sign * legs[0] > 0


def _jumps(track: Track, frames: Tensor, speed: str | None) -> str | None:
    if tag := _at_rest(track, frames):
        return tag
    across, down = _legs(track)
    # Up, down and up again, at least, and no more than once a slot.
    right = not across and 3 <= len(down) <= (len(frames) - 1) // SLOT and down[0] < 0
    return None if right else "wrong motion"


def _resizes(growing: bool) -> Check:
    def check(track: Track, frames: Tensor, speed: str | None) -> str | None:
        if tag := _at_rest(track, frames):
            return tag
        x, y, side = track.series()
        sides = [math.log(s) if growing else -math.log(s) for s in side]
        gain = sides[-1] - sides[0]
        if gain <= -math.log(RESIZED):
            return "wrong end"
        steady = _backtrack(sides) < math.log(SHRINKAGE)
        # What is larger than it was may be found a cell further on.
        kept = max(_range(x), _range(y)) < LEAST + 4
        return None if gain >= math.log(RESIZED) and steady and kept else "wrong motion"

    return check


def _comes(forwards: bool, gradual: bool) -> Check:
    """The check of what fades in or appears, or backwards fades out or disappears."""

    def check(track: Track, frames: Tensor, speed: str | None) -> str | None:
        last = len(frames) - 1
        whole = [s.frame for s in track.whole]
        first, final = whole[0], whole[-1]
        if not forwards:  # as if it were told from its end
            first, final = last - final, last - first
        if lasts(track, len(frames)) and first <= 1 and final >= last - 1:
            return "frozen"
        if first <= 1 and final < last - 1:
            return "wrong end"
        if first == 0 or final < last - 1 or not lasts(track, len(frames), whole[0], whole[-1]):
            return "vanish"
        if not rests(track):
            return "wrong motion"
        ordered = frames if forwards else frames.flip(0)
        opacity = _opacity(track, ordered)
        between = sum(FAINT < value < FULL for value in opacity)
        steady = _backtrack(opacity) < LOST
        return None if steady and (between >= GRADUAL) == gradual else "wrong motion"

    return check


def _spins(track: Track, frames: Tensor, speed: str | None) -> str | None:
    """The track is that of both ends."""
    if [seen.frame for seen in track.whole] != [0, len(frames) - 1]:
        return "vanish"
    if not rests(track):
        return "wrong motion"
    turned, still, alike = _quarter_turns(track, frames)
    if turned or alike:
        return None
    return "frozen" if still else "wrong motion"


CHECKS: dict[str, Check] = {
    "still": _still,
    **{f"moves {way}": _goes(*along) for way, along in WAYS.items()},
    "bounces": _bounces,
    "grows": _resizes(True),
    "shrinks": _resizes(False),
    "fades in": _comes(True, gradual=True),
    "fades out": _comes(False, gradual=True),
    "appears": _comes(True, gradual=False),
    "disappears": _comes(False, gradual=False),
    "spins": _spins,
    "jumps": _jumps,
}


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _backtrack(values: Sequence[float]) -> float:
    """How much of what was gained is lost again at most."""
    highest, worst = values[0], 0.0
    for value in values:
        highest = max(highest, value)
        worst = max(worst, highest - value)
    return worst


def _legs(track: Track) -> tuple[list[float], list[float]]:
    """The ways that a track goes before it turns, across and down, each of ``LEAST`` or more."""
    found = [seen.found for seen in track.whole]
    return _ways([thing.x for thing in found]), _ways([thing.y for thing in found])


def _ways(values: Sequence[float]) -> list[float]:
    ways: list[float] = []
    turn = extreme = values[0]  # where the present way began, and how far it got
    for value in values:
        if (value - extreme) * (extreme - turn) >= 0 and abs(value - turn) >= abs(extreme - turn):
            extreme = value
        elif abs(value - extreme) >= LEAST:
            if abs(extreme - turn) >= LEAST:
                ways.append(extreme - turn)
            turn, extreme = extreme, value
    if abs(extreme - turn) >= LEAST:
        ways.append(extreme - turn)
    return ways


def _pace(times: Sequence[int], along: Sequence[float], frames: int) -> float:
    """Pixels a frame of what goes evenly and then comes to rest at the end of some slot."""
    at, time = np.asarray(along), np.asarray(times, dtype=float)
    fits = []
    for rest in range(SLOT, frames, SLOT):
        moving = np.minimum(time, rest)
        matrix = np.stack([moving, np.ones_like(moving)], 1)
        solution, *_ = np.linalg.lstsq(matrix, at, rcond=None)
        fits.append((float(((matrix @ solution - at) ** 2).sum()), abs(float(solution[0]))))
    return min(fits)[1]


def _crop(frames: Tensor, x: float, y: float, side: float) -> Tensor:
    """The part (..., 3, s, s) of frames around a centre, with an even side, inside the picture."""
    height, width = frames.shape[-2:]
    half = max(2, min(round(side / 2), height // 2, width // 2))
    left = min(max(round(x) - half, 0), width - 2 * half)
    top = min(max(round(y) - half, 0), height - 2 * half)
    return frames[..., top : top + 2 * half, left : left + 2 * half]


def _opacity(track: Track, frames: Tensor) -> list[float]:
    """How much there is in each frame of what the last shows and the first does not."""
    part = _crop(frames, *track.box)
    shown = part[-1] - part[0]
    power = shown.square().sum().clamp_min(1e-6)
    values: list[float] = (((part - part[0]) * shown).sum((1, 2, 3)) / power).tolist()
    return values


def _quarter_turns(track: Track, frames: Tensor) -> tuple[bool, bool, bool]:
    """Whether the ends of slots show the first frame turned further and further, either way;
    whether they show it as it was; and whether that cannot be told."""
    x, y, side = track.box
    ends = range(SLOT, len(frames), SLOT)
    turns = [slot for slot in range(1, len(ends) + 1) if slot % 4]
    best: tuple[float, list[float], list[float], float] | None = None
    for across in OFFSETS:
        for down in OFFSETS:
            crops = _crop(frames, x + across, y + down, side)
            for way in (1, -1):
                turned = [torch.rot90(crops[0], way * slot, (-2, -1)) for slot in turns]
                gaps = [
                    float((crops[SLOT * slot] - picture).abs().mean())
                    for slot, picture in zip(turns, turned, strict=True)
                ]
                stays = [float((crops[SLOT * slot] - crops[0]).abs().mean()) for slot in turns]
                change = min(float((picture - crops[0]).abs().mean()) for picture in turned)
                if best is None or sum(gaps) < best[0]:
                    best = (sum(gaps), gaps, stays, change)
    assert best is not None, "there are offsets"
    _, gaps, stays, change = best
    turned_everywhere = all(gap < stay for gap, stay in zip(gaps, stays, strict=True))
    return turned_everywhere, max(stays) < ALIKE, change < ALIKE
