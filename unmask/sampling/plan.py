"""A plan: all the numbers of one picture's steps, made before the loop."""

import math
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

from unmask.errors import RequestError, named
from unmask.sampling.counts import COUNT_RULES, CountRule
from unmask.sampling.noise import SEED_BOUND
from unmask.sampling.schedulers import SCHEDULERS, Inversion, Scheduler, Subjects, make_scheduler
from unmask.sampling.schedules import (
    GUIDANCE_SCHEDULES,
    MASK_SCHEDULES,
    GuidanceShape,
    annealed,
    guidance_scales,
    listed_schedule,
    reveal_counts,
    temperatures,
)

MAX_STEPS = 256
_COLDEST = 0.01  # of temperatures that others lead to or come from


def option(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of PlanOptions: what it means, and its bounds if it is a number."""
    bounds = {} if low is None else {"low": low, "high": high}
    return field(default=default, metadata={"help": help, **bounds})


@dataclass(frozen=True)
class PlanOptions:
    """What a request may choose of its sampling; values out of bounds raise RequestError."""

    steps: int = option(12, "passes over the grid, each of which reveals some tokens", 1, MAX_STEPS)
    scheduler: str = option("halton", "which positions a step reveals")
    mask_schedule: str = option("arccos", "how many tokens stay masked after a step")
    mask_shares: tuple[float, ...] | None = option(
        None, "the share still masked after each step, listed; overrides steps and mask_schedule"
    )
    temperature: float = option(1.0, "divides the logits of values; 0 takes the likeliest", 0, 10)
    temperature_last: float | None = option(
        None, "the temperature that the last step is led to; unset: the same at all", _COLDEST, 10
    )
    temperature_warmup: int = option(
        0, "how many first steps draw values at twice the temperature", 0, MAX_STEPS
    )
    top_k: int = option(0, "draw values from so many likeliest codes; 0 is all", 0, 1_000_000)
    choice_temperature: float = option(
        4.5, "Gumbel noise on positions at the first step, falling to 0 at the last", 0, 100
    )
    halton_shift: bool = option(
        True, "move 'halton' order around the grid, for each image by its own noise"
    )
    guidance_scale: float = option(1.0, "s in u + s (c - u); 1 is off and costs one pass", 0, 30)
    guidance: str = option("constant", "how the scale runs over the steps, from 1 up to s")
    guidance_interval: tuple[float, float] = option(
        (0.0, 1.0), "the part of the steps that guidance 'interval' guides", 0, 1
    )
    guidance_power: float = option(3.0, "how late guidance 'power-cosine' rises", 0.1, 20)
    count_rule: str = option("planned", "what may reveal more tokens than planned, and end early")
    entropy_bound: float = option(0.5, "nats that count_rule 'entropy' allows at a step", 0, 1e6)
    stable_confidence: float = option(
        0.6, "probability above which count_rule 'stable' reveals", 0, 1
    )
    stable_divergence: float = option(
        0.015, "nats of change since the last step below which 'stable' reveals", 0, 1e6
    )
    reuse: int = option(0, "local steps behind each full step (ReCAP); 0 is off", 0, MAX_STEPS)
    reuse_after: float = option(0.5, "the part of the steps that are all full first", 0, 1)
    eta: float | None = option(
        None, "how eagerly remasking schedulers remask; unset: their own default", 0, 100
    )
    uncage_base: str = option("confidence", "the scheduler that 'uncage' adds its contrast to")
    uncage_weight: float = option(3.0, "weight of the attention contrast", 0, 100)
    uncage_share: float = option(0.25, "the first part of the steps that the contrast guides", 0, 1)
    uncage_blur: float = option(0.5, "Gaussian blur of attention maps, sigma in tokens", 0, 16)
    noise_regularisation: float = option(
        0.0, "scale of Gaussian noise on logits, strong at both ends of the steps", 0, 10
    )
    differential: float = option(
        0.0, "share of the steadiest tokens drawn from what rose since the last step", 0, 1
    )
    zigzag: bool = option(
        False, "undo and redo each step (masked Z-sampling): three times the cost"
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            for number in value if isinstance(value, tuple) else (value,):
                if "low" in each.metadata and number is not None:
                    check_range(each.name, number, each.metadata["low"], each.metadata["high"])
        named("mask_schedule", MASK_SCHEDULES, self.mask_schedule)
        named("guidance", GUIDANCE_SCHEDULES, self.guidance)
        named("count_rule", COUNT_RULES, self.count_rule)
        scheduler = make_scheduler(self.scheduler, self)
        named("uncage_base", SCHEDULERS, self.uncage_base)
        if self.mask_shares is not None:
            check_range("mask_shares", len(self.mask_shares), 1, MAX_STEPS)
            listed_schedule(self.mask_shares)
        low, high = self.guidance_interval
        check_range("guidance_interval", high, low, 1.0)
        if self.temperature_last is not None and self.temperature < _COLDEST:
            raise RequestError(
                f"temperature is {self.temperature}; to be led to temperature_last it must be "
                f"{_COLDEST} at least",
                "temperature",
            )
        if scheduler.remasks:
            self._refuse(
                f"scheduler {self.scheduler!r} takes revealed tokens back; choose one that does "
                "not, such as halton or confidence"
            )
        if self.reuse:
            self._refuse("reuse fixes positions ahead", but="reuse")
        if self.count_rule != "planned" and self.zigzag:
            raise RequestError("zigzag: choose it or a count_rule, not both", "zigzag")

    def _refuse(self, why: str, but: str = "") -> None:
        """RequestError if anything is on that cannot live with revealing in a fixed order."""
        on = {
            "reuse": self.reuse > 0,
            "count_rule": self.count_rule != "planned",
            "zigzag": self.zigzag,
            "differential": self.differential > 0 and but == "reuse",
        }
        for name, wanted in on.items():
            if wanted and name != but:
                raise RequestError(f"{name} cannot be used here: {why}", name)


@dataclass(frozen=True)
class PlannedStep:
    """The numbers of one step."""

    total: int  # unknown tokens that are revealed when it is done
    scheduler: Scheduler
    temperature: float
    choice_temperature: float
    guidance_scale: float
    null: bool  # whether the null condition runs too
    opens: int = 0  # a full step: how many tokens it and its local steps reveal, if any follow
    local: bool = False  # runs on the positions that the last full step chose, no others
    logit_noise: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The steps of one picture, and what its noise comes from."""

    seed: int
    image_index: int
    window: int
    grid: tuple[int, int]
    steps: tuple[PlannedStep, ...]
    rule: CountRule | None = None
    differential: float = 0.0
    top_k: int = 0
    subjects: Subjects = ()

    @property
    def tokens(self) -> int:
        """The tokens of the grid, known ones too."""
        return self.grid[0] * self.grid[1]

    @property
    def passes(self) -> float:
        """What the plan costs at most, in full passes of the backbone for one condition."""
        cost, targets = 0.0, 0
        for step in self.steps:
            targets = step.opens or targets
            cost += (1 + step.null) * (targets / self.tokens if step.local else 1)
        return cost


def make_plan(
    options: PlanOptions,
    grid: tuple[int, int],
    seed: int,
    image_index: int = 0,
    unknown: int | None = None,
    *,
    window: int = 0,
    subjects: Subjects = (),
    revise: float | None = None,
) -> Plan:
    """The plan of a picture with ``unknown`` tokens to draw (the whole grid if None).

    ``subjects`` are the text positions of each object's words, for 'uncage'. ``revise`` is for
    tokens that start revealed: so large a share of them is masked at any time until the last step.
    """
    check_range("seed", seed, 0, SEED_BOUND - 1)
    unknown = grid[0] * grid[1] if unknown is None else unknown
    scheduler = make_scheduler(options.scheduler, options)
    totals = _totals(options, unknown) if revise is None else _revising(options, unknown, revise)
    steps = len(totals)
    if revise is not None and not scheduler.remasks:
        remasking = [
            name for name, make in SCHEDULERS.items() if make(PlanOptions(scheduler=name)).remasks
        ]
        raise RequestError(
            f"scheduler {options.scheduler!r} never remasks, so it cannot revise a picture; "
            f"choose one of: {', '.join(remasking)}",
            "scheduler",
        )
    shape = GuidanceShape(options.guidance_interval, options.guidance_power)
    scales = guidance_scales(
        GUIDANCE_SCHEDULES[options.guidance], steps, shape, options.guidance_scale
    )
    choice = annealed(options.choice_temperature, steps)
    warmth = temperatures(
        options.temperature, options.temperature_last, options.temperature_warmup, steps
    )
    planned = [
        PlannedStep(
            total=totals[i],
            scheduler=scheduler.at(i / steps, subjects),
            temperature=warmth[i],
            choice_temperature=choice[i],
            guidance_scale=scales[i],
            null=scales[i] != 1,
            logit_noise=options.noise_regularisation * _both_ends(i, steps),
        )
        for i in range(steps)
    ]
    if options.reuse:
        planned = _grouped(planned, round(steps * options.reuse_after), options.reuse)
    if options.zigzag:
        planned = _zigzag(planned)
    return Plan(
        seed=seed,
        image_index=image_index,
        window=window,
        grid=grid,
        steps=tuple(planned),
        rule=COUNT_RULES[options.count_rule](options),
        differential=options.differential,
        top_k=options.top_k,
        subjects=subjects,
    )


def check_range(param: str, value: float, low: float, high: float) -> None:
    """Raise RequestError unless low <= value <= high; NaN and infinity never pass."""
    if not low <= value <= high:
        raise RequestError(f"{param} is {value}; it must lie between {low} and {high}", param)


def _totals(options: PlanOptions, unknown: int) -> list[int]:
    """How many tokens are revealed after each step."""
    schedule, steps = MASK_SCHEDULES[options.mask_schedule], options.steps
    if options.mask_shares is not None:
        schedule, steps = listed_schedule(options.mask_shares), len(options.mask_shares)
    total, totals = 0, []
    for count in reveal_counts(schedule, steps, unknown):
        total += count
        totals.append(total)
    return totals


def _revising(options: PlanOptions, unknown: int, share: float) -> list[int]:
    """All revealed but a constant share, and everything at the end."""
    masked = min(max(round(unknown * share), 1), unknown)
    return [unknown - masked] * (options.steps - 1) + [unknown] if unknown else []


def _both_ends(i: int, steps: int) -> float:
    """1 at the first and the last step, 0 half-way (arXiv 2411.10781)."""
    return abs(math.cos(math.pi * i / (steps - 1))) if steps > 1 else 1.0


def _grouped(steps: list[PlannedStep], alone: int, reuse: int) -> list[PlannedStep]:
    """The steps behind the first ``alone`` in groups of a full one and ``reuse`` local ones."""
    made = steps[:alone]
    for start in range(alone, len(steps), reuse + 1):
        group = steps[start : start + reuse + 1]
        before = steps[start - 1].total if start else 0
        if len(group) > 1:
            # The local steps read what the full one computed: it runs all that they need.
            null = any(step.null for step in group)
            group[0] = replace(group[0], opens=group[-1].total - before, null=null)
        made += [group[0], *(replace(step, local=True) for step in group[1:])]
    return made


def _zigzag(steps: list[PlannedStep]) -> list[PlannedStep]:
    """Each step but the first done, undone by the null condition's choice, and done again."""
    made = steps[:1]
    for before, step in pairwise(steps):
        back = replace(
            step, total=before.total, scheduler=Inversion(), guidance_scale=0.0, null=True
        )
        made += [step, back, step]
    return made
