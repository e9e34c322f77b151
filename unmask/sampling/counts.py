"""Count rules: what may reveal more tokens than the plan asks for, where the model is sure.

The plan stays the floor, so a picture takes at most its steps; it ends when nothing is masked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from unmask.sampling.schedulers.entropy import entropies

if TYPE_CHECKING:
    from unmask.sampling.plan import PlanOptions


class CountRule(Protocol):
    """Tells which masked positions are ready, whatever the plan's count."""

    def ready(
        self, log_probabilities: Tensor, previous: Tensor | None, scores: Tensor, masked: Tensor
    ) -> Tensor:
        """(tokens,) bool for one row: ``log_probabilities`` now and at the step before (tokens,
        codebook), the scheduler's scores (tokens,), and what is masked."""
        ...


@dataclass(frozen=True)
class EntropyBounded:
    """As many in the scheduler's order as keep (sum - largest) of their entropies within ``bound``
    nats: so much can drawing them apart from each other cost at most (arXiv 2505.24857)."""

    bound: float

    def ready(
        self, log_probabilities: Tensor, previous: Tensor | None, scores: Tensor, masked: Tensor
    ) -> Tensor:
        ranked = scores.masked_fill(~masked, float("-inf")).sort(descending=True, stable=True)
        order = ranked.indices[: int(masked.sum())]
        entropy = entropies(log_probabilities[order])
        within = entropy.cumsum(0) - entropy.cummax(0).values <= self.bound
        return torch.zeros_like(masked).index_put((order,), within)


@dataclass(frozen=True)
class Stable:
    """All that are sure and did not change since the last step (KLASS)."""

    confidence: float
    divergence: float

    def ready(
        self, log_probabilities: Tensor, previous: Tensor | None, scores: Tensor, masked: Tensor
    ) -> Tensor:
        if previous is None:
            return torch.zeros_like(masked)
        sure = log_probabilities.amax(-1).exp() > self.confidence
        steady = divergence(log_probabilities, previous) < self.divergence
        return sure & steady & masked


def divergence(log_probabilities: Tensor, previous: Tensor) -> Tensor:
    """KL(now || before) in nats, over the last dimension."""
    return (log_probabilities.exp() * (log_probabilities - previous)).sum(-1)


COUNT_RULES: dict[str, Callable[["PlanOptions"], CountRule | None]] = {
    "planned": lambda options: None,
    "entropy": lambda options: EntropyBounded(options.entropy_bound),
    "stable": lambda options: Stable(options.stable_confidence, options.stable_divergence),
}
