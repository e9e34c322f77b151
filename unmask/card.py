"""The card of a model: what it is, and the sampling options that suit it."""

import math
from dataclasses import dataclass, field

from unmask.sampling.methods import check_range
from unmask.sampling.options import choose_options
from unmask.sampling.planned import MAX_STEPS


@dataclass(frozen=True)
class ModelCard:
    """What a model is, and the options that suit it; ``model.json`` of a native one.

    ``defaults`` and each of the ``presets`` hold options by their public names. A preset is for the
    ``scheduler`` and the ``steps`` that it names; the defaults are for schedulers without one.
    ``tokenizer`` names the bundled model whose tokenizer this one shares, if it has none itself.
    """

    name: str
    description: str
    scheduler: str  # the default
    presets: tuple[dict[str, object], ...]
    steps: int = 12  # the default
    defaults: dict[str, object] = field(default_factory=dict)
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        for preset in (self.defaults, *self.presets):
            choose_options({}, preset)  # refuses what is no option, or out of its bounds
        for preset in self.presets:
            if not isinstance(preset.get("scheduler"), str):
                raise ValueError(f"presets: {preset} names no scheduler")

    def preset(self, scheduler: str, steps: int | None = None) -> dict[str, object]:
        """The options that suit a scheduler at so many steps (the card's own if None).

        They are those of the nearest number that was tuned, by ratio.
        """
        steps = self.steps if steps is None else steps
        check_range("steps", steps, 1, MAX_STEPS)
        tuned = [preset for preset in self.presets if preset["scheduler"] == scheduler]
        nearest = self.defaults
        if tuned:
            ratios = [abs(math.log(_steps(preset) / steps)) for preset in tuned]
            nearest = tuned[ratios.index(min(ratios))]
        return {**nearest, "scheduler": scheduler, "steps": steps}


def _steps(preset: dict[str, object]) -> int:
    return choose_options({}, preset).steps
