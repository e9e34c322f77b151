"""No reuse."""

from dataclasses import dataclass

from unmask.sampling.planned import ReusePolicy


@dataclass(frozen=True)
class Everything(ReusePolicy, name="none"):
    """Every step runs all of it."""
