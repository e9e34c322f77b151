"""Schedules over the steps of a plan: how much stays masked, and how strong guidance is."""

import math
from collections.abc import Callable, Sequence

from unmask.errors import RequestError, choices

# From progress (0, 1] to the share of unknown tokens that is still masked, falling from 1 to 0.
MaskSchedule = Callable[[float], float]

MASK_SCHEDULES: dict[str, MaskSchedule] = {
    "cosine": lambda progress: math.cos(progress * math.pi / 2),
    "arccos": lambda progress: math.acos(progress) * 2 / math.pi,
    "linear": lambda progress: 1 - progress,
    "power": lambda progress: 1 - progress**2.5,
}

# From progress [0, 1), the interval and the full scale to the scale of a step.
GuidanceSchedule = Callable[[float, tuple[float, float], float], float]

GUIDANCE_SCHEDULES: dict[str, GuidanceSchedule] = {
    "constant": lambda progress, interval, scale: scale,
    "linear": lambda progress, interval, scale: 1 + (scale - 1) * progress,
    "interval": lambda progress, interval, scale: (
        scale if interval[0] <= progress < interval[1] else 1.0
    ),
}


def mask_schedule(name: str) -> MaskSchedule:
    """The mask schedule of that name."""
    if name not in MASK_SCHEDULES:
        raise RequestError(
            f"mask_schedule {name[:80]!r}: {choices(name[:80], MASK_SCHEDULES)}", "mask_schedule"
        )
    return MASK_SCHEDULES[name]


def guidance_schedule(name: str) -> GuidanceSchedule:
    """The guidance schedule of that name."""
    if name not in GUIDANCE_SCHEDULES:
        raise RequestError(
            f"guidance {name[:80]!r}: {choices(name[:80], GUIDANCE_SCHEDULES)}", "guidance"
        )
    return GUIDANCE_SCHEDULES[name]


def reveal_counts(schedule: MaskSchedule, steps: int, unknown: int) -> tuple[int, ...]:
    """How many tokens each step reveals: at least one a step, ``unknown`` in all.

    With fewer tokens than steps there are as many steps as tokens; with nothing unknown there are
    none.
    """
    steps = min(steps, unknown)
    counts, left = [], unknown
    for i in range(steps):
        wanted = math.floor(unknown * schedule((i + 1) / steps))
        # Leave one for each step to come, and take at least one now.
        after = min(max(wanted, steps - 1 - i), left - 1)
        after = after if i + 1 < steps else 0
        counts.append(left - after)
        left = after
    return tuple(counts)


def annealed(start: float, steps: int) -> tuple[float, ...]:
    """A straight line that falls from below ``start`` to 0 at the last step."""
    return tuple(start * (1 - (i + 1) / steps) for i in range(steps))


def guidance_scales(
    schedule: GuidanceSchedule, steps: int, interval: Sequence[float], scale: float
) -> tuple[float, ...]:
    """The guidance scale of each step; 1 means a single pass."""
    low, high = interval
    return tuple(schedule(i / steps, (low, high), scale) for i in range(steps))
