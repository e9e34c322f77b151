"""The numbers of one step, as plans hold them, and what a reuse policy makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unmask.sampling.methods import Method
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


class ReusePolicy(Method):
    """Says for each step of a plan what runs: the whole grid or some positions, for the condition
    and the null condition or for one of them."""

    registry: ClassVar[dict[str, type["ReusePolicy"]]] = {}
    reads_memory: ClassVar[bool] = False  # what a backbone keeps: not every one does
    needs_guidance: ClassVar[bool] = False  # or it does nothing

    @property
    def active(self) -> bool:
        """Whether any step reads what an earlier one left."""
        return False

    @property
    def fixes_positions(self) -> bool:
        """Whether it fixes ahead what steps reveal, so that none of them may choose."""
        return False

    def arrange(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        """The steps with what runs at each."""
        return list(steps)
