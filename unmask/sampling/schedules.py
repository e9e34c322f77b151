"""Schedules over the steps of a plan: how much stays masked, and how warm values are drawn."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch

from unmask.errors import RequestError


class MaskSchedule(NamedTuple):
    """``share`` leads from progress (0, 1] to the share of unknown tokens that is still masked,
    falling from 1 to 0; ``floors`` tells which of the two numbers of tokens is rounded down.
    """

    share: Callable[[float], float]
    floors: Literal["masked", "revealed"] = "masked"


# In fp32 and rounded as aMUSEd and Halton-MaskGIT do it, token for token.
MASK_SCHEDULES: dict[str, MaskSchedule] = {
    "cosine": MaskSchedule(lambda progress: float((torch.tensor(progress) * math.pi / 2).cos())),
    "arccos": MaskSchedule(
        lambda progress: float(torch.tensor(progress).acos() / (math.pi / 2)), "revealed"
    ),
    "linear": MaskSchedule(lambda progress: float(1 - torch.tensor(progress))),
    "power": MaskSchedule(lambda progress: 1 - progress**2.5),
}


def listed_schedule(shares: Sequence[float]) -> MaskSchedule:
    """The mask schedule that an explicit list describes: the share masked after each step.

    RequestError unless the shares lie in [0, 1], never rise, and end at 0.
    """
    if not shares or any(not 0 <= share <= 1 for share in shares):
        raise RequestError(
            f"mask_shares {list(shares)[:20]}: give numbers from 0 to 1, one a step", "mask_shares"
        )
    if shares[-1] != 0 or any(later > earlier for earlier, later in pairwise(shares)):
        raise RequestError(
            f"mask_shares {list(shares)[:20]}: they may not rise, and the last must be 0",
            "mask_shares",
        )
    return MaskSchedule(lambda progress: shares[math.ceil(progress * len(shares) - 1e-9) - 1])


def reveal_counts(schedule: MaskSchedule, steps: int, unknown: int) -> tuple[int, ...]:
    """How many tokens each step reveals: at least one a step, ``unknown`` in all.

    With fewer tokens than steps there are as many steps as tokens; with nothing unknown there are
    none.
    """
    steps = min(steps, unknown)
    counts, masked = [], unknown
    for i in range(steps):
        share = schedule.share((i + 1) / steps)
        if schedule.floors == "masked":
            wanted = math.floor(unknown * share)
        else:
            wanted = unknown - math.floor(unknown * (1 - share))
        # Leave one for each step to come, and take at least one now.
        after = min(max(wanted, steps - 1 - i), masked - 1)
        after = after if i + 1 < steps else 0
        counts.append(masked - after)
        masked = after
    return tuple(counts)


def temperatures(start: float, last: float | None, warmup: int, steps: int) -> tuple[float, ...]:
    """The temperature of values at each step: its inverse runs in a straight line to that of
    ``last``, and the first ``warmup`` steps are twice as warm (Halton-MaskGIT, arXiv 2503.17076).
    """
    line = [start] * steps
    if last is not None:
        parts = (i / max(1, steps - 1) for i in range(steps))
        line = [1 / (1 / start + (1 / last - 1 / start) * part) for part in parts]
    return tuple(
        2 * temperature if i < warmup else temperature for i, temperature in enumerate(line)
    )
