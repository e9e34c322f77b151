"""What every checkpoint family gives: a card, a tokenizer, a backbone, a condition encoder."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from unmask.devices import Precision
from unmask.models.base import ImageBackbone
from unmask.models.conditions import ConditionEncoder
from unmask.sampling.methods import check_range
from unmask.sampling.options import choose_options
from unmask.sampling.planned import MAX_STEPS
from unmask.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class ModelCard:
    """What a model is, and the options that suit it; ``model.json`` of a native one.

    ``defaults`` and each of the ``presets`` hold options by their public names. A preset is for the
    ``scheduler`` and the ``steps`` that it names; the defaults are for schedulers without one.
    """

    name: str
    description: str
    scheduler: str  # the default
    presets: tuple[dict[str, object], ...]
    steps: int = 12  # the default
    defaults: dict[str, object] = field(default_factory=dict)

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


class Parts(NamedTuple):
    """A loaded model: everything on its device, in eval mode, without gradients."""

    tokenizer: Tokenizer
    backbone: ImageBackbone
    condition: ConditionEncoder


class Family(NamedTuple):
    """A published layout and how it is read.

    ``recognises`` looks at the names and small files of a folder, never at weights. ``card`` gets
    the folder and the name that the model shall have. ``load`` gets the folder, a device and the
    precision of the backbone (tokenizers find tokens in fp32); ConfigError names the file at fault.
    ``files`` are the patterns of what ``load`` reads, for a download.
    """

    name: str
    layout: str
    recognises: Callable[[Path], bool]
    card: Callable[[Path, str], ModelCard]
    load: Callable[[Path, str, Precision], Parts]
    files: Callable[[Precision], tuple[str, ...]]
