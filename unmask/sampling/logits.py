"""Logit options: what may be done to logits between guidance and drawing."""

from collections.abc import Sequence

from torch import Tensor

from unmask.sampling.counts import divergence
from unmask.sampling.noise import Purpose, normal, uniforms
from unmask.sampling.plan import Plan


def regularising_noise(plan: Plan, step: int, codebook: int) -> Tensor:
    """Gaussian noise for the logits (tokens, codebook) of a step (arXiv 2411.10781)."""
    drawn = uniforms(
        plan.seed, plan.image_index, plan.tokens * codebook, Purpose.LOGITS, plan.window, step
    )
    return plan.steps[step].logit_noise * normal(drawn).view(plan.tokens, codebook)


def differential(log_probabilities: Tensor, previous: Tensor | None, share: float) -> Tensor:
    """Log probabilities (tokens, codebook) where the ``share`` of tokens that changed least since
    the step before keeps only what rose (differential sampling, arXiv 2411.10781)."""
    if previous is None:
        return log_probabilities
    steadiest = divergence(previous, log_probabilities).argsort(stable=True)
    chosen = steadiest[: int(share * len(steadiest))]
    rose = (log_probabilities[chosen].exp() - previous[chosen].exp()).clamp_min(1e-6)
    return log_probabilities.index_put((chosen,), (rose / rose.sum(-1, keepdim=True)).log())


def likeliest(logits: Tensor, counts: Sequence[int]) -> Tensor:
    """Logits (rows, tokens, codebook) without those of codes that are not among the so many
    likeliest of their row's count; 0 leaves all. A tie at the bound stays whole."""
    if not any(0 < count < logits.shape[-1] for count in counts):
        return logits
    kept = logits.clone()
    for own, count in zip(kept, counts, strict=True):
        if 0 < count < logits.shape[-1]:
            own.masked_fill_(own < own.topk(count).values[:, -1:], float("-inf"))
    return kept
