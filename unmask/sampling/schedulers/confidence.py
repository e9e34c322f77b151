"""Confidence: positions whose drawn value is likely come first (MaskGIT, arXiv 2202.04200)."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.scheduler import NoisyScheduler, ScoreContext


@dataclass(frozen=True)
class Confidence(NoisyScheduler, name="confidence"):
    """log p of the drawn value, and Gumbel noise."""

    def score(self, context: ScoreContext) -> Tensor:
        return context.value_log_probabilities + context.choice_noise
