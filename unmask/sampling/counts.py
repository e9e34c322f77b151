"""Count rules: what may reveal more tokens than the plan asks for, where the model is sure.

The plan stays the floor, so a picture takes at most its steps; it ends when nothing is masked.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unmask.sampling.methods import Method, option
from unmask.sampling.values import divergence, entropies


class CountRule(Method):
    """Tells which masked positions are ready, whatever the plan's count."""

    registry: ClassVar[dict[str, type["CountRule"]]] = {}

    @property
    def follows_plan(self) -> bool:
        """Whether it never reveals more than the plan asks for, so that it need not be asked."""
        return False

    def ready(
        self, log_probabilities: Tensor, previous: Tensor | None, scores: Tensor, masked: Tensor
    ) -> Tensor:
        """(tokens,) bool for one row: ``log_probabilities`` now and at the step before (tokens,
        codebook), the scheduler's scores (tokens,), and what is masked."""
        return torch.zeros_like(masked)


@dataclass(frozen=True)
class Planned(CountRule, name="planned"):
    """Just as many as the plan has."""

    @property
    def follows_plan(self) -> bool:
        return True


@dataclass(frozen=True)
class EntropyBounded(CountRule, name="entropy"):
    """As many in the scheduler's order as keep (sum - largest) of their entropies within the bound:
    so much can drawing them apart from each other cost at most (arXiv 2505.24857)."""

    entropy_bound: float = option(0.5, "nats that count_rule 'entropy' allows at a step", 0, 1e6)

    def ready(
        self, log_probabilities: Tensor, previous: Tensor | None, scores: Tensor, masked: Tensor
    ) -> Tensor:
        ranked = scores.masked_fill(~masked, float("-inf")).sort(descending=True, stable=True)
        order = ranked.indices  # those that are masked come first, and what follows is left out
        entropy = entropies(log_probabilities[order])
        within = entropy.cumsum(0) - entropy.cummax(0).values <= self.entropy_bound
        return torch.zeros_like(masked).index_put((order,), within) & masked


@dataclass(frozen=True)
class Stable(CountRule, name="stable"):
    """All that are sure and did not change since the last step (KLASS)."""

    stable_confidence: float = option(
        0.6, "probability above which count_rule 'stable' reveals", 0, 1
    )
    stable_divergence: float = option(
        0.015, "nats of change since the last step below which 'stable' reveals", 0, 1e6
    )

    def ready(
        self, log_probabilities: Tensor, previous: Tensor | None, scores: Tensor, masked: Tensor
    ) -> Tensor:
        if previous is None:
            return torch.zeros_like(masked)
        sure = log_probabilities.amax(-1).exp() > self.stable_confidence
        steady = divergence(log_probabilities, previous) < self.stable_divergence
        return sure & steady & masked


COUNT_RULES = CountRule.registry
