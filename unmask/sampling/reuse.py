"""Reuse policies: what of the backbone runs at each step, and what is read from its memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from unmask.sampling.methods import Method, option
from unmask.sampling.planned import MAX_STEPS, PlannedStep


class ReusePolicy(Method):
    """Says for each step of a plan what runs: the whole grid, or some positions alone."""

    registry: ClassVar[dict[str, type["ReusePolicy"]]] = {}

    @property
    def active(self) -> bool:
        """Whether any step reads the memory of an earlier one."""
        return False

    def arrange(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        """The steps with what runs at each."""
        return list(steps)


@dataclass(frozen=True)
class Everything(ReusePolicy, name="none"):
    """Every step runs the whole grid."""


@dataclass(frozen=True)
class Recap(ReusePolicy, name="recap"):
    """Groups of a full step and local ones, which run on the positions that the full one chose
    (ReCAP, arXiv 2505.19089)."""

    reuse: int = option(0, "local steps after each full step (ReCAP); 0 is off", 0, MAX_STEPS)
    reuse_after: float = option(0.5, "the part of the steps that are all full first", 0, 1)

    @property
    def active(self) -> bool:
        return self.reuse > 0

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


REUSE_POLICIES = ReusePolicy.registry
