"""Carried null passes: guidance by what the null condition said some steps ago."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from unmask.sampling.methods import option
from unmask.sampling.planned import MAX_STEPS, PlannedStep, ReusePolicy


@dataclass(frozen=True)
class CarriedNull(ReusePolicy, name="carried-null"):
    """Runs the null condition at some of the guided steps; those between take its last logits."""

    needs_guidance: ClassVar[bool] = True

    null_every: int = option(
        2, "steps from one null pass to the next, which carry its logits over", 2, MAX_STEPS
    )
    null_after: float = option(0.0, "the part of the steps that all run their null pass", 0, 1)

    @property
    def active(self) -> bool:
        return True

    def arrange(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        arranged, alone, ran = list(steps), round(len(steps) * self.null_after), None
        for i, step in enumerate(steps):
            if not step.null:
                continue
            if ran is None or i < alone or i - ran >= self.null_every:
                ran = i
            else:
                arranged[ran] = replace(arranged[ran], keeps_null=True)
                arranged[i] = replace(step, null=False, carries_null=True)
        return arranged
