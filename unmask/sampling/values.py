"""Sums over the values that a position may take, shared by schedulers, count rules and logits."""

from torch import Tensor


def entropies(log_probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last dimension; -inf stands for a value that cannot be."""
    finite = log_probabilities.clamp_min(-1e4)
    return -(finite.exp() * finite).sum(-1)


def divergence(log_probabilities: Tensor, previous: Tensor) -> Tensor:
    """KL(now || before) in nats, over the last dimension."""
    return (log_probabilities.exp() * (log_probabilities - previous)).sum(-1)
