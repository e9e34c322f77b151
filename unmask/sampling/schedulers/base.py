"""What a scheduler sees, and what it answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace

from torch import Tensor

from unmask.sampling.noise import gumbel

# The objects of a prompt: each has words (noun and attributes), each word its text positions.
Subjects = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class ScoreContext:
    """The rows of a step that share a scheduler and a grid; nothing here may be changed."""

    grid: tuple[int, int]
    log_probabilities: Tensor  # (rows, tokens, codebook), guided, at temperature 1, fp32
    values: Tensor  # (rows, tokens), the value drawn at each masked position, else its token
    uniforms: Tensor  # (rows, tokens), this step's position noise
    first_uniforms: Tensor  # (rows, tokens), the first step's: fixed for a request
    choice_temperature: Tensor  # (rows, 1)
    unknown: Tensor  # (rows, tokens) bool, what the request draws: revealed already or masked yet
    revealed: Tensor  # (rows, tokens) bool, the unknown tokens that are revealed
    total: Tensor  # (rows, 1), how many of them shall be revealed after this step
    confidence: Tensor  # (rows, tokens), log p of each revealed token when it was revealed
    subjects: tuple[Subjects, ...]  # one a row
    attention: Tensor | None = None  # (rows, tokens, text positions), if the scheduler reads it

    def of(self, rows: list[int]) -> "ScoreContext":
        """The context of some of the rows; of all of them it is this one, for it is large."""
        if rows == list(range(len(self.values))):
            return self
        chosen = {
            each.name: getattr(self, each.name)[rows]
            for each in fields(self)
            if isinstance(getattr(self, each.name), Tensor)
        }
        return replace(self, **chosen, subjects=tuple(self.subjects[row] for row in rows))

    @property
    def value_log_probabilities(self) -> Tensor:
        """log p of the values, (rows, tokens)."""
        return self.log_probabilities.gather(-1, self.values.unsqueeze(-1)).squeeze(-1)

    @property
    def choice_noise(self) -> Tensor:
        """Gumbel noise at the choice temperature, (rows, tokens)."""
        return self.choice_temperature * gumbel(self.uniforms)


@dataclass(frozen=True)
class Scheduler(ABC):
    """Gives every position a score: the highest are, or stay, revealed."""

    @property
    def remasks(self) -> bool:
        """Whether revealed tokens compete too; otherwise they stay, whatever their score."""
        return False

    @property
    def attends(self) -> bool:
        """Whether it reads image-to-text attention."""
        return False

    def at(self, progress: float, subjects: Subjects) -> "Scheduler":
        """The scheduler of the step at this part [0, 1) of the way."""
        return self

    @abstractmethod
    def score(self, context: ScoreContext) -> Tensor:
        """Scores (rows, tokens), fp32."""
