"""A plan: all the numbers of one picture's steps, made before the loop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unmask.errors import RequestError
from unmask.sampling.counts import CountRule
from unmask.sampling.logits import LogitOption
from unmask.sampling.methods import check_range
from unmask.sampling.noise import SEED_BOUND
from unmask.sampling.options import Length, PlanOptions, plan_options
from unmask.sampling.planned import PlannedStep
from unmask.sampling.scheduler import Scheduler, Subjects
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.schedules import MASK_SCHEDULES, listed_schedule, reveal_counts, temperatures


@dataclass(frozen=True)
class Plan:
    """The steps of one picture, and what its noise comes from. ``grid`` is its shape in tokens,
    slowest axis first: (rows, columns), or (frames, rows, columns) of a clip."""

    seed: int
    image_index: int
    window: int
    grid: tuple[int, ...]
    steps: tuple[PlannedStep, ...]
    scheduler: Scheduler  # that was chosen; a step's own may be another
    count_rule: CountRule | None = None  # None: the plan's counts are the counts
    logit_options: tuple[LogitOption, ...] = ()  # those that are on
    subjects: Subjects = ()

    @property
    def tokens(self) -> int:
        """The tokens of the grid, known ones too."""
        return math.prod(self.grid)

    @property
    def passes(self) -> float:
        """What the plan costs at most, in full passes of the backbone for one condition."""
        return sum(self.passes_by_step, start=0.0)

    @property
    def passes_by_step(self) -> list[float]:
        """What each step costs."""
        costs, targets = list[float](), 0
        for step in self.steps:
            targets = step.group_total or targets
            costs.append((1 + step.null) * (targets / self.tokens if step.local else 1))
        return costs


def make_plan(
    options: PlanOptions,
    grid: tuple[int, ...],
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
    unknown = math.prod(grid) if unknown is None else unknown
    scheduler = options.scheduler
    if revise is None:
        totals = _totals(options.length, unknown)
    else:
        _check_remasks(scheduler)
        if options.reuse_policy.fixes_positions:
            raise RequestError(
                "reuse cannot be used here: revising takes as many tokens back as it reveals, and "
                "local steps take none back; leave it 0",
                "reuse",
            )
        totals = _revising(options.length, unknown, revise)
    planned: Sequence[PlannedStep] = _steps(options, totals, subjects)
    # One at most of the two changes anything: options refuse both together.
    for arrangement in (options.reuse_policy, options.zigzag):
        planned = arrangement.arrange(planned)
    rule = options.count_rule
    return Plan(
        seed=seed,
        image_index=image_index,
        window=window,
        grid=grid,
        steps=tuple(planned),
        scheduler=scheduler,
        count_rule=None if rule.follows_plan else rule,
        logit_options=tuple(option for option in options.logit_options if option.on),
        subjects=subjects,
    )


def _steps(options: PlanOptions, totals: Sequence[int], subjects: Subjects) -> list[PlannedStep]:
    steps, scheduler, values = len(totals), options.scheduler, options.values
    scales = options.guidance.scales(steps, options.scale.guidance_scale)
    choice = scheduler.choice_temperatures(steps)
    warmth = temperatures(
        values.temperature, values.temperature_last, values.temperature_warmup, steps
    )
    return [
        PlannedStep(
            total=totals[i],
            scheduler=scheduler.at(i / steps, subjects),
            temperature=warmth[i],
            choice_temperature=choice[i],
            guidance_scale=scales[i],
            null=scales[i] != 1,  # at a scale of 1 the null condition has no say, and is not run
            logit_noise=sum(option.noise_scale(i, steps) for option in options.logit_options),
        )
        for i in range(steps)
    ]


def _totals(length: Length, unknown: int) -> list[int]:
    """How many tokens are revealed after each step."""
    schedule = MASK_SCHEDULES[length.mask_schedule]
    if length.mask_shares is not None:
        schedule = listed_schedule(length.mask_shares)
    total, totals = 0, []
    for count in reveal_counts(schedule, length.steps, unknown):
        total += count
        totals.append(total)
    return totals


def _revising(length: Length, unknown: int, share: float) -> list[int]:
    """All revealed but a constant share, and everything at the end."""
    masked = min(max(round(unknown * share), 1), unknown)
    return [unknown - masked] * (length.steps - 1) + [unknown] if unknown else []


def _check_remasks(scheduler: Scheduler) -> None:
    """RequestError for a scheduler that cannot revise, with those that can."""
    if scheduler.remasks:
        return
    remasking = [name for name in SCHEDULERS if plan_options(scheduler=name).scheduler.remasks]
    raise RequestError(
        f"scheduler {scheduler.name!r} never remasks, so it cannot revise a picture; "
        f"choose one of: {', '.join(remasking)}",
        "scheduler",
    )
