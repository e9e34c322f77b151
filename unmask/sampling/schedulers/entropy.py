"""Entropy: where the model hesitates least."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.scheduler import NoisyScheduler, ScoreContext
from unmask.sampling.values import entropies


@dataclass(frozen=True)
class Entropy(NoisyScheduler, name="entropy"):
    """Minus the entropy of the values in nats, and Gumbel noise."""

    def score(self, context: ScoreContext) -> Tensor:
        return context.choice_noise - entropies(context.log_probabilities)
