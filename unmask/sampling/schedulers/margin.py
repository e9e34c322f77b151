"""Margin: where the best value leads by most (arXiv 2502.06768)."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.scheduler import NoisyScheduler, ScoreContext


@dataclass(frozen=True)
class Margin(NoisyScheduler, name="margin"):
    """The gap in probability between the two likeliest values, and Gumbel noise."""

    def score(self, context: ScoreContext) -> Tensor:
        best = context.log_probabilities.topk(min(2, context.log_probabilities.shape[-1]), -1)
        probabilities = best.values.exp()
        return probabilities[..., 0] - probabilities[..., -1] + context.choice_noise
