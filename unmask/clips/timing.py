"""From frames that are shown for this long and that to frames at one rate."""

from collections.abc import Sequence
from itertools import pairwise

ROUNDING = 0.011  # seconds: gif counts hundredths of one, webm thousandths
NEAR_WHOLE = 0.01  # a rate so near to a whole number, in parts of it, is that number
FASTEST = 60.0  # frames a second of a clip whose frames keep no rhythm


def instants(start: float, stop: float, rate: float) -> range:
    """The numbers of the frames of a clip of this rate that are taken between two times, counted
    from the start of the clip.
    """
    slack = min(ROUNDING, 0.25 / rate)  # times are rounded; a frame must not come twice for it
    return range(_at_or_after((start - slack) * rate), _at_or_after((stop - slack) * rate))


def arrange(starts: Sequence[float], end: float, wanted: float | None) -> tuple[float, list[int]]:
    """The rate of a clip, and which of the frames, starting at these times, is seen at each of its
    places; the first starts at 0.

    Without a wanted rate, all frames are seen, each as often as its duration asks; only where
    their durations have no common measure above 1/60 s it is the rate of the shortest, at most 60.
    """
    if wanted is None:
        rhythm = _rhythm(starts, end)
        if rhythm is not None:
            return rhythm
        shortest = min(stop - start for start, stop in pairwise([*starts, end]))
        wanted = _whole(min(1 / max(shortest, 1 / FASTEST), FASTEST))
    stops = [*starts[1:], end]
    picks = [
        number
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True))
        for _ in instants(start, stop, wanted)
    ]
    return wanted, picks or [0]


def _rhythm(starts: Sequence[float], end: float) -> tuple[float, list[int]] | None:
    """The rate at which every frame is shown a whole number of times, if there is one."""
    gaps = [stop - start for start, stop in pairwise([*starts, end])]
    # Of the short gaps is learnt, beyond their rounding, what the long ones are to be divided by.
    length, total, step = 0.0, 0, min(gaps)
    for gap in sorted(gaps):
        if step <= 0:
            return None
        total += max(round(gap / step), 1)
        length += gap
        step = length / total
    slack, place = min(ROUNDING, step / 4), 0
    picks: list[int] = []
    for number, (start, gap) in enumerate(zip(starts, gaps, strict=True)):
        if abs(start - place * step) > slack:
            return None
        times = max(round(gap / step), 1)
        place += times
        picks += [number] * times
    rate = _whole(1 / step)
    return (rate, picks) if rate <= FASTEST or len(picks) == len(starts) else None


def _whole(rate: float) -> float:
    nearest = max(round(rate), 1)
    return float(nearest) if abs(rate - nearest) <= NEAR_WHOLE * nearest else rate


def _at_or_after(place: float) -> int:
    return max(-int(-place // 1), 0)
