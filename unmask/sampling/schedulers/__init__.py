"""Schedulers: which positions are revealed at a step. A new one is a file here and a line below."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from unmask.errors import RequestError, named
from unmask.sampling.schedulers.base import Scheduler, ScoreContext, Subjects
from unmask.sampling.schedulers.confidence import Confidence
from unmask.sampling.schedulers.entropy import Entropy
from unmask.sampling.schedulers.halton import Halton
from unmask.sampling.schedulers.inversion import Inversion
from unmask.sampling.schedulers.margin import Margin
from unmask.sampling.schedulers.p2 import SelfPlanning
from unmask.sampling.schedulers.random import Random
from unmask.sampling.schedulers.remdm import Remdm
from unmask.sampling.schedulers.uncage import Uncage

if TYPE_CHECKING:
    from unmask.sampling.plan import PlanOptions

__all__ = ["SCHEDULERS", "Inversion", "Scheduler", "ScoreContext", "Subjects", "make_scheduler"]


def make_scheduler(name: str, options: "PlanOptions", param: str = "scheduler") -> Scheduler:
    """The scheduler of that name, set as the options say; RequestError lists the choices."""
    return named(param, SCHEDULERS, name)(options)


def _eta(options: "PlanOptions", default: float) -> float:
    return default if options.eta is None else options.eta


def _uncage(options: "PlanOptions") -> Scheduler:
    if options.uncage_base == "uncage":
        raise RequestError("uncage_base: 'uncage' cannot be its own base", "uncage_base")
    base = make_scheduler(options.uncage_base, options, "uncage_base")
    return Uncage(base, options.uncage_weight, options.uncage_share, options.uncage_blur)


SCHEDULERS: dict[str, Callable[["PlanOptions"], Scheduler]] = {
    "confidence": lambda options: Confidence(),
    "entropy": lambda options: Entropy(),
    "halton": lambda options: Halton(options.halton_shift),
    "margin": lambda options: Margin(),
    "p2": lambda options: SelfPlanning(_eta(options, 1.0)),
    "random": lambda options: Random(),
    "remdm-cap": lambda options: Remdm("cap", _eta(options, 0.05)),
    "remdm-conf": lambda options: Remdm("conf", _eta(options, 0.05)),
    "remdm-rescale": lambda options: Remdm("rescale", _eta(options, 0.05)),
    "uncage": _uncage,
}
