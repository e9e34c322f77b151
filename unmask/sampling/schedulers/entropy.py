"""Entropy: where the model hesitates least."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.schedulers.base import Scheduler, ScoreContext


@dataclass(frozen=True)
class Entropy(Scheduler):
    """Minus the entropy of the values in nats, and Gumbel noise."""

    def score(self, context: ScoreContext) -> Tensor:
        return context.choice_noise - entropies(context.log_probabilities)


def entropies(log_probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last dimension; -inf stands for a value that cannot be."""
    finite = log_probabilities.clamp_min(-1e4)
    return -(finite.exp() * finite).sum(-1)
