"""The numbers of one step, as plans hold them."""

from dataclasses import dataclass

from unmask.sampling.scheduler import Scheduler

MAX_STEPS = 256


@dataclass(frozen=True)
class PlannedStep:
    """The numbers of one step."""

    total: int  # unknown cells that are revealed when it is done
    scheduler: Scheduler
    temperature: float
    choice_temperature: float
    guidance_scale: float
    null: bool  # whether the null condition runs too
    keeps_null: bool = False  # its logits are for later steps too
    carries_null: bool = False  # guided by those that were kept last
    group_total: int = 0  # a full step: how many cells it and its local steps reveal, if any follow
    local: bool = False  # runs on the positions that the last full step chose, no others
    logit_noise: float = 0.0
