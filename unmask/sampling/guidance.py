"""Guidance kinds: how the scale runs over the steps, from 1 (off) up to the one asked for."""

import math
from dataclasses import dataclass
from typing import ClassVar

from unmask.errors import RequestError
from unmask.sampling.methods import Method, option


class Guidance(Method):
    """Leads from progress [0, 1) to the part of the way from 1 to the full scale."""

    registry: ClassVar[dict[str, type["Guidance"]]] = {}

    def part(self, progress: float) -> float:
        """0: no guidance, and no pass of the null condition; 1: the full scale."""
        return 1.0

    def scales(self, steps: int, scale: float) -> tuple[float, ...]:
        """The guidance scale of each step; 1 means a single pass."""
        parts = [self.part(i / steps) for i in range(steps)]
        return tuple(scale if part == 1 else 1 + (scale - 1) * part for part in parts)


@dataclass(frozen=True)
class Constant(Guidance, name="constant"):
    """The same at every step."""


@dataclass(frozen=True)
class Linear(Guidance, name="linear"):
    """Rising in a straight line."""

    def part(self, progress: float) -> float:
        return progress


@dataclass(frozen=True)
class Cosine(Guidance, name="cosine"):
    """Rising slowly at both ends."""

    def part(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class PowerCosine(Guidance, name="power-cosine"):
    """Late, then steep (MaskBit, arXiv 2409.16211)."""

    guidance_power: float = option(3.0, "how late guidance 'power-cosine' rises", 0.1, 20)

    def part(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress**self.guidance_power)) / 2


@dataclass(frozen=True)
class Interval(Guidance, name="interval"):
    """Full within a part of the steps, off outside of it (arXiv 2404.07724)."""

    guidance_interval: tuple[float, float] = option(
        (0.0, 1.0), "the part of the steps that guidance 'interval' guides", 0, 1
    )

    def __post_init__(self) -> None:
        low, high = self.guidance_interval
        if high < low:
            raise RequestError(
                f"guidance_interval is [{low}, {high}]: give where it begins, then where it ends",
                "guidance_interval",
            )

    def part(self, progress: float) -> float:
        low, high = self.guidance_interval
        return float(low <= progress < high)


GUIDANCES = Guidance.registry
