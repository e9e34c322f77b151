"""ReMDM: ancestral sampling that takes tokens back (arXiv 2503.00307)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unmask.sampling.backbone import RowTensors
from unmask.sampling.noise import gumbel
from unmask.sampling.scheduler import Scheduler, ScoreContext, eagerness


@dataclass(frozen=True)
class Remdm(Scheduler):
    """Random order; before a step reveals, a share sigma of the revealed tokens is masked again.

    sigma_max = min(1, (1 - alpha_after) / alpha_before) keeps the shares that the plan asks for.
    The paper's counts are random with these means; ours are exact but for rounding, so that plans
    hold. Which are taken back is left to chance, unless a subclass knows better.
    """

    eta: float = eagerness(0.05)

    @property
    def remasks(self) -> bool:
        return True

    def score(self, context: ScoreContext) -> Tensor:
        ranks = _ranks(self.reluctance(context).masked_fill(~context.revealed, float("inf")))
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
        # Rounded up or down by chance: a small share of few tokens still takes some back.
        rounded = (self.wanted(before, most) + context.uniforms[:, :1]).floor()
        return torch.maximum(torch.minimum(rounded, most.float()), before - after)

    def wanted(self, before: Tensor, most: Tensor) -> Tensor:
        """sigma times the revealed tokens, (rows, 1): here sigma = eta sigma_max."""
        return most * self.eta

    def reluctance(self, context: ScoreContext) -> Tensor:
        """(rows, tokens): the lowest are taken back first."""
        return context.uniforms


@dataclass(frozen=True)
class RemdmCap(Remdm, name="remdm-cap"):
    """sigma = min(eta, sigma_max)."""

    def wanted(self, before: Tensor, most: Tensor) -> Tensor:
        return before * self.eta


@dataclass(frozen=True)
class Confidences(RowTensors):
    """log p of each token when it was revealed, (rows, tokens)."""

    row_axes: ClassVar[tuple[int, ...]] = (0,)

    log_probabilities: Tensor


@dataclass(frozen=True)
class RemdmConf(Remdm, name="remdm-conf"):
    """Takes back what was revealed with little confidence."""

    @property
    def keeps_reveals(self) -> bool:
        return True

    def begin(self, grid: tuple[int, ...], uniforms: Tensor) -> RowTensors:
        return Confidences(torch.zeros_like(uniforms))

    def remember(self, context: ScoreContext, kept: Tensor) -> RowTensors:
        before = _confidences(context)
        revealed_now = kept & ~context.revealed
        return Confidences(torch.where(revealed_now, context.value_log_probabilities, before))

    def reluctance(self, context: ScoreContext) -> Tensor:
        # Without replacement from softmax(-probability at its reveal), by Gumbel noise.
        return _confidences(context).exp() - gumbel(context.uniforms)


@dataclass(frozen=True)
class RemdmRescale(Remdm, name="remdm-rescale"):
    """sigma = eta sigma_max."""


def _confidences(context: ScoreContext) -> Tensor:
    assert isinstance(context.memory, Confidences), "a row begins with its confidences"
    return context.memory.log_probabilities


def _ranks(values: Tensor) -> Tensor:
    """The place of each value in rising order, (rows, tokens)."""
    return values.argsort(dim=-1, stable=True).argsort(-1)
