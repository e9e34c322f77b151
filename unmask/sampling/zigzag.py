"""Masked Z-sampling: each step is done, undone by what the prompt had no say in, and done again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from unmask.sampling.inversion import Inversion
from unmask.sampling.methods import option
from unmask.sampling.planned import PlannedStep


@dataclass(frozen=True)
class Zigzag:
    """Whether steps are undone and redone (arXiv 2411.10781)."""

    zigzag: bool = option(
        False, "undo and redo each step (masked Z-sampling): three times the cost"
    )

    def arrange(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        """Each step but the first done, undone by the null condition's choice, and done again."""
        if not self.zigzag:
            return list(steps)
        arranged = list(steps[:1])
        for before, step in pairwise(steps):
            undoing = replace(
                step, total=before.total, scheduler=Inversion(), guidance_scale=0.0, null=True
            )
            arranged += [step, undoing, step]
        return arranged
