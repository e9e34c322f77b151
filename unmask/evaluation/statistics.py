"""Means and intervals of scores; prompts are what is drawn at random, not pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000
SEED = 0


class Interval(NamedTuple):
    """A mean and its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """``0.712 (0.650-0.770)``."""
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def score_interval(values: Sequence[float], categories: Sequence[str]) -> Interval:
    """The unweighted mean over categories of the mean of each one's ``values``, one a prompt.

    Prompts are drawn anew within their category. The score is linear in the values: the interval of
    the difference of two settings, paired, is that of the differences of their values. ValueError
    if there are no values.
    """
    if not values:
        raise ValueError("a score needs at least one prompt")
    numbers, names = np.asarray(values, dtype=float), np.asarray(categories)
    random = np.random.default_rng(SEED)
    means: list[float] = []
    drawn: list[NDArray[np.float64]] = []
    for name in dict.fromkeys(categories):
        of_category = numbers[names == name]
        means.append(float(of_category.mean()))
        chosen = random.integers(len(of_category), size=(SAMPLES, len(of_category)))
        drawn.append(of_category[chosen].mean(1))
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    return Interval(float(np.mean(means)), float(low), float(high))
