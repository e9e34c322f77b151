"""P2, path planning by the model itself (arXiv 2502.03540)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.sampling.scheduler import NoisyScheduler, ScoreContext, eagerness


@dataclass(frozen=True)
class SelfPlanning(NoisyScheduler, name="p2"):
    """log p of every value, drawn or revealed before; that of revealed ones times ``eta``.

    log p is negative: eta above 1 takes more back, 0 nothing.
    """

    eta: float = eagerness(1.0)

    @property
    def remasks(self) -> bool:
        return True

    def score(self, context: ScoreContext) -> Tensor:
        logs = context.value_log_probabilities
        kept = logs * self.eta if self.eta else torch.full_like(logs, float("inf"))
        return torch.where(context.revealed, kept, logs + context.choice_noise)
