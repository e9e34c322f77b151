"""What a reuse policy is: what of the backbone runs at each step, and what is kept from others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unmask.sampling.methods import Method
from unmask.sampling.planned import PlannedStep


class ReusePolicy(Method):
    """Says for each step of a plan what runs: the whole grid or some positions, for the condition
    and the null condition or for one of them."""

    registry: ClassVar[dict[str, type["ReusePolicy"]]] = {}
    reads_memory: ClassVar[bool] = False  # what a backbone keeps: not every one does

    needs_guidance: ClassVar[bool] = False

    @property
    def active(self) -> bool:
        """Whether any step reads what an earlier one left."""
        return False

    @property
    def fixes_positions(self) -> bool:
        """Whether it fixes ahead what steps reveal, so that none of them may choose."""
        return False

    def arrange(self, steps: Sequence[PlannedStep]) -> list[PlannedStep]:
        """The steps with what runs at each."""
        return list(steps)


@dataclass(frozen=True)
class Everything(ReusePolicy, name="none"):
    """Every step runs all of it."""
