"""ReCAP: local steps, on the positions that a full step chose (arXiv 2505.19089)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from unmask.sampling.methods import option
from unmask.sampling.planned import MAX_STEPS, PlannedStep, ReusePolicy


@dataclass(frozen=True)
class Recap(ReusePolicy, name="recap"):
    """Groups of a full step and local ones, which run on the positions that the full one chose.

    What a scheduler takes back it takes at full steps; local ones only reveal.
    """

    reads_memory: ClassVar[bool] = True

    reuse: int = option(0, "local steps after each full step (ReCAP); 0 is off", 0, MAX_STEPS)
    reuse_after: float = option(0.5, "the part of the steps that are all full first", 0, 1)

    @property
    def active(self) -> bool:
        return self.reuse > 0

    @property
    def fixes_positions(self) -> bool:
        return self.active

    @property
    def idle_options(self) -> dict[str, str]:
        return {} if self.reuse else {"reuse_after": "reuse is 0, which is off; set it above 0"}

    def arrange(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        if not self.reuse:
            return list(steps)
        alone = round(len(steps) * self.reuse_after)
        arranged = list(steps[:alone])
        for start in range(alone, len(steps), self.reuse + 1):
            # The last group may be shorter, even a full step alone.
            full, *local = steps[start : start + self.reuse + 1]
            before = steps[start - 1].total if start else 0
            if local:
                # The local steps read what the full one computed: it runs all that they need.
                null = any(step.null for step in (full, *local))
                full = replace(full, group_total=local[-1].total - before, null=null)
            arranged += [full, *(replace(step, local=True) for step in local)]
        return arranged
