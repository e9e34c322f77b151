"""Random order: the yardstick that every other scheduler must beat."""

from torch import Tensor

from unmask.sampling.schedulers.base import ScoreContext


class Random:
    """Fresh noise at each step."""

    def score(self, context: ScoreContext) -> Tensor:
        return context.uniforms
