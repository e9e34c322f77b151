"""What a scheduler sees, and what it answers."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class ScoreContext:
    """The rows of a step that share a scheduler and a grid; nothing here may be changed."""

    grid: tuple[int, int]
    log_probabilities: Tensor  # (rows, tokens, codebook), guided, at temperature 1, fp32
    values: Tensor  # (rows, tokens), the value drawn at each position
    uniforms: Tensor  # (rows, tokens), this step's position noise
    first_uniforms: Tensor  # (rows, tokens), the first step's: fixed for a request
    choice_temperature: Tensor  # (rows, 1)

    @property
    def value_log_probabilities(self) -> Tensor:
        """log p of the drawn values, (rows, tokens)."""
        return self.log_probabilities.gather(-1, self.values.unsqueeze(-1)).squeeze(-1)


class Scheduler(Protocol):
    """Gives every position a score; of the masked ones, the highest are revealed first."""

    def score(self, context: ScoreContext) -> Tensor:
        """Scores (rows, tokens), fp32."""
        ...
