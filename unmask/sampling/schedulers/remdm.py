"""ReMDM: ancestral sampling that takes tokens back (arXiv 2503.00307)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unmask.sampling.noise import gumbel
from unmask.sampling.schedulers.base import Scheduler, ScoreContext


@dataclass(frozen=True)
class Remdm(Scheduler):
    """Random order; before a step reveals, a share sigma of the revealed tokens is masked again.

    ``cap``: sigma = min(eta, sigma_max); ``rescale`` and ``conf``: eta sigma_max, where sigma_max =
    min(1, (1 - alpha_after) / alpha_before) keeps the shares that the plan asks for. ``conf`` takes
    back what was revealed with little confidence, the others any token alike. The paper's counts
    are random with these means; ours are exact but for rounding, so that plans hold.
    """

    kind: Literal["cap", "rescale", "conf"]
    eta: float

    @property
    def remasks(self) -> bool:
        return True

    def score(self, context: ScoreContext) -> Tensor:
        ranks = _ranks(self._reluctance(context).masked_fill(~context.revealed, float("inf")))
        taken = context.revealed & (ranks < self.taken_back(context))
        return torch.where(
            context.revealed, torch.where(taken, float("-inf"), float("inf")), context.uniforms
        )

    def taken_back(self, context: ScoreContext) -> Tensor:
        """How many revealed tokens are masked before this step reveals, (rows, 1)."""
        unknown = context.unknown.sum(-1, keepdim=True)
        before = context.revealed.sum(-1, keepdim=True)
        after = context.total
        most = torch.minimum(before, unknown - after)  # sigma_max, times the revealed tokens
        wanted = before * self.eta if self.kind == "cap" else most * self.eta
        # Rounded up or down by chance: a small share of few tokens still takes some back.
        rounded = (wanted + context.uniforms[:, :1]).floor()
        return torch.maximum(torch.minimum(rounded, most.float()), before - after)

    def _reluctance(self, context: ScoreContext) -> Tensor:
        """The lowest are taken back first."""
        if self.kind != "conf":
            return context.uniforms
        # Without replacement from softmax(-probability at its reveal), by Gumbel noise.
        return context.confidence.exp() - gumbel(context.uniforms)


def _ranks(values: Tensor) -> Tensor:
    """The place of each value in rising order, (rows, tokens)."""
    return values.argsort(dim=-1, stable=True).argsort(-1)
