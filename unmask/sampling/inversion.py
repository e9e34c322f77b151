"""Inversion: the way back in masked Z-sampling (arXiv 2411.10781)."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.scheduler import Scheduler, ScoreContext


@dataclass(frozen=True)
class Inversion(Scheduler):
    """Takes back the tokens that the null condition is surest of: the prompt had no say in them.

    No choice of a request: plans put it between the steps of a zigzag.
    """

    @property
    def remasks(self) -> bool:
        return True

    def score(self, context: ScoreContext) -> Tensor:
        sureness = context.log_probabilities.amax(-1)
        return (-sureness).masked_fill(~context.revealed, float("-inf"))
