"""Schedulers: which positions are revealed at a step. A new one is a file here and a line below."""

from unmask.errors import RequestError, choices
from unmask.sampling.schedulers.base import Scheduler, ScoreContext
from unmask.sampling.schedulers.confidence import Confidence
from unmask.sampling.schedulers.halton import Halton
from unmask.sampling.schedulers.random import Random

SCHEDULERS: dict[str, Scheduler] = {
    "confidence": Confidence(),
    "halton": Halton(),
    "random": Random(),
}

__all__ = ["SCHEDULERS", "Scheduler", "ScoreContext", "find_scheduler"]


def find_scheduler(name: str) -> Scheduler:
    """The scheduler of that name; RequestError lists the choices if there is none."""
    if name not in SCHEDULERS:
        raise RequestError(
            f"scheduler {name[:80]!r}: {choices(name[:80], SCHEDULERS)}", "scheduler"
        )
    return SCHEDULERS[name]
