"""A plan: all the numbers of one picture's steps, made before the loop."""

from dataclasses import dataclass

from unmask.errors import RequestError
from unmask.sampling.noise import SEED_BOUND
from unmask.sampling.schedulers import Scheduler, find_scheduler
from unmask.sampling.schedules import (
    annealed,
    guidance_scales,
    guidance_schedule,
    mask_schedule,
    reveal_counts,
)

MAX_STEPS = 256
MAX_GUIDANCE = 30.0
MAX_TEMPERATURE = 10.0
MAX_CHOICE_TEMPERATURE = 100.0


@dataclass(frozen=True)
class PlanOptions:
    """What a request may choose of its sampling; values out of bounds raise RequestError.

    ``temperature`` divides the logits (0: always the likeliest value); ``choice_temperature`` is
    the first Gumbel scale on positions and falls to 0; guidance is ``u + s (c - u)``, 1 = off.
    """

    steps: int = 12
    scheduler: str = "halton"
    mask_schedule: str = "arccos"
    temperature: float = 1.0
    choice_temperature: float = 4.5
    guidance_scale: float = 1.0
    guidance: str = "constant"
    guidance_interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        find_scheduler(self.scheduler)
        mask_schedule(self.mask_schedule)
        guidance_schedule(self.guidance)
        check_range("steps", self.steps, 1, MAX_STEPS)
        check_range("temperature", self.temperature, 0.0, MAX_TEMPERATURE)
        check_range("choice_temperature", self.choice_temperature, 0.0, MAX_CHOICE_TEMPERATURE)
        check_range("guidance_scale", self.guidance_scale, 0.0, MAX_GUIDANCE)
        low, high = self.guidance_interval
        check_range("guidance_interval", low, 0.0, 1.0)
        check_range("guidance_interval", high, low, 1.0)


@dataclass(frozen=True)
class Plan:
    """One number a step of one picture, its scheduler, and what its noise comes from."""

    seed: int
    image_index: int
    grid: tuple[int, int]
    scheduler: Scheduler
    counts: tuple[int, ...]
    temperatures: tuple[float, ...]
    choice_temperatures: tuple[float, ...]
    guidance_scales: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.counts)

    @property
    def guided(self) -> bool:
        """Whether any step runs the null condition too."""
        return any(scale != 1 for scale in self.guidance_scales)


def make_plan(
    options: PlanOptions,
    grid: tuple[int, int],
    seed: int,
    image_index: int = 0,
    unknown: int | None = None,
) -> Plan:
    """The plan of a picture with ``unknown`` tokens to draw (the whole grid if None)."""
    check_range("seed", seed, 0, SEED_BOUND - 1)
    tokens = grid[0] * grid[1]
    counts = reveal_counts(
        mask_schedule(options.mask_schedule), options.steps, tokens if unknown is None else unknown
    )
    steps = len(counts)
    return Plan(
        seed=seed,
        image_index=image_index,
        grid=grid,
        scheduler=find_scheduler(options.scheduler),
        counts=counts,
        temperatures=(options.temperature,) * steps,
        choice_temperatures=annealed(options.choice_temperature, steps),
        guidance_scales=guidance_scales(
            guidance_schedule(options.guidance),
            steps,
            options.guidance_interval,
            options.guidance_scale,
        ),
    )


def check_range(param: str, value: float, low: float, high: float) -> None:
    """Raise RequestError unless low <= value <= high; NaN and infinity never pass."""
    if not low <= value <= high:
        raise RequestError(f"{param} is {value}; it must lie between {low} and {high}", param)
