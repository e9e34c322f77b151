"""What a scheduler is: scores for all cells, of which the highest are revealed."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from unmask.sampling.backbone import RowTensors
from unmask.sampling.methods import Method, option
from unmask.sampling.noise import gumbel

# The text positions of each word of each object in a prompt.
Subjects = tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class ScoreContext:
    """The rows of a step that share a scheduler; nothing here may be changed."""

    grid: tuple[int, ...]
    logits: Tensor  # (rows, tokens, codebook), guided, at temperature 1, fp32
    values: Tensor  # (rows, tokens), the value drawn at each masked position, else its token
    uniforms: Tensor  # (rows, tokens), this step's position noise
    choice_temperature: Tensor  # (rows, 1)
    unknown: Tensor  # (rows, tokens) bool, what the request draws: revealed already or masked yet
    revealed: Tensor  # (rows, tokens) bool, the unknown tokens that are revealed
    total: Tensor  # (rows, 1), how many of them shall be revealed after this step
    subjects: tuple[Subjects, ...] = ()  # one a row
    memory: RowTensors | None = None  # what the scheduler keeps of these rows
    attention: Tensor | None = None  # (rows, tokens, text positions), if the scheduler reads it

    @cached_property
    def log_probabilities(self) -> Tensor:
        """(rows, tokens, codebook); computed when a scheduler first looks."""
        return self.logits.log_softmax(-1)

    @cached_property
    def value_log_probabilities(self) -> Tensor:
        """log p of the values, (rows, tokens)."""
        return self.log_probabilities.gather(-1, self.values.unsqueeze(-1)).squeeze(-1)

    @property
    def choice_noise(self) -> Tensor:
        """Gumbel noise at the choice temperature, (rows, tokens)."""
        return self.choice_temperature * gumbel(self.uniforms)


@dataclass(frozen=True)
class Scheduler(Method):
    """Gives every position a score: the highest are, or stay, revealed."""

    registry: ClassVar[dict[str, type["Scheduler"]]] = {}

    @property
    def remasks(self) -> bool:
        """Whether revealed tokens compete too; otherwise they stay, whatever their score."""
        return False

    @property
    def keeps_reveals(self) -> bool:
        """Whether it keeps something of each cell that is revealed: local steps, which reveal
        without asking it, are then not possible."""
        return False

    @property
    def reads_attention(self) -> bool:
        """Whether it reads image-to-text attention."""
        return False

    def choice_temperatures(self, steps: int) -> Sequence[float]:
        """The choice temperature of each step."""
        return (0.0,) * steps

    def at(self, progress: float, subjects: Subjects) -> "Scheduler":
        """The scheduler of the step at this part [0, 1) of the way."""
        return self

    def begin(self, grid: tuple[int, ...], uniforms: Tensor) -> RowTensors | None:
        """What it keeps of one row from the start, made from the grid and the first step's position
        noise (1, tokens), both on the host; None if it keeps nothing."""
        return None

    def remember(self, context: ScoreContext, kept: Tensor) -> RowTensors | None:
        """What it keeps for later steps; ``kept`` (rows, tokens) bool is revealed after this one.
        The context's own memory if nothing changes."""
        return context.memory

    @abstractmethod
    def score(self, context: ScoreContext) -> Tensor:
        """Scores (rows, tokens), fp32."""


@dataclass(frozen=True)
class NoisyScheduler(Scheduler):
    """A scheduler that adds Gumbel noise to its scores: without it neighbours crowd together."""

    choice_temperature: float = option(
        4.5, "Gumbel noise on positions at the first step, falling to 0 at the last", 0, 100
    )

    def choice_temperatures(self, steps: int) -> Sequence[float]:
        """A straight line that falls to 0 at the last step."""
        return [self.choice_temperature * (1 - i / max(1, steps - 1)) for i in range(steps)]


def eagerness(default: float) -> Any:
    """The option ``eta`` of schedulers that take tokens back, each with a default of its own."""
    return option(default, "how eagerly a remasking scheduler takes tokens back", 0, 100)
