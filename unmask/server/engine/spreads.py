"""How long something takes, over all times that it was done: counts by bounds, as histograms."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

# Of seconds: a step of a small model takes 1 ms, and a large edit minutes.
SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    120.0,
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass
class Spread:
    """How many values were at most each bound, and above all of them; and their sum."""

    bounds: Sequence[float] = SECONDS
    total: float = 0.0
    counts: list[int] = field(default_factory=list)  # by bound, the last one: above all bounds

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> "Spread":
        """What it is now."""
        return Spread(self.bounds, self.total, list(self.counts))
