"""Random order: the yardstick that every other scheduler must beat."""

from dataclasses import dataclass

from torch import Tensor

from unmask.sampling.scheduler import Scheduler, ScoreContext


@dataclass(frozen=True)
class Random(Scheduler, name="random"):
    """Fresh noise at each step. With one token a step it is the first-hitting sampler
    (arXiv 2409.02908), which draws from just the distribution that the model stands for."""

    def score(self, context: ScoreContext) -> Tensor:
        return context.uniforms
