"""What every checkpoint family gives: a card, a tokenizer, a backbone, a condition encoder."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from unmask.devices import Precision
from unmask.models.base import ImageBackbone
from unmask.models.conditions import ConditionEncoder
from unmask.sampling.plan import MAX_STEPS, PlanOptions, check_range
from unmask.tokenizers.base import Tokenizer

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True)
class ModelCard:
    """What a model is, and the options that suit each scheduler; ``model.json`` of a native one."""

    name: str
    description: str
    scheduler: str  # the default
    presets: tuple[PlanOptions, ...]
    steps: int = 12  # the default

    def preset(self, scheduler: str, steps: int | None = None) -> PlanOptions:
        """The options that suit a scheduler at so many steps (the card's own if None).

        They are those of the nearest number that was tuned, by ratio; plain defaults for a
        scheduler that never was.
        """
        steps = self.steps if steps is None else steps
        check_range("steps", steps, 1, MAX_STEPS)
        tuned = [options for options in self.presets if options.scheduler == scheduler]
        if not tuned:
            return PlanOptions(scheduler=scheduler, steps=steps)
        nearest = min(tuned, key=lambda options: abs(math.log(options.steps / steps)))
        return dataclasses.replace(nearest, steps=steps)


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
