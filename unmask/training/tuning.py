"""Tuning a native picture model on a few chosen pictures (the quality tuning of Emu, arXiv
2309.15807): all of it, or an adapter beside it that a server adds to it.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from unmask import config
from unmask.card import ModelCard
from unmask.errors import ConfigError
from unmask.families.native import picture_tokenizer
from unmask.models.adapter import write_adapter
from unmask.models.conditions import ConditionEncoder, TextCondition
from unmask.models.folder import load_native, save_native
from unmask.scenes.data import DataConfig
from unmask.scenes.seeds import HELD_OUT
from unmask.store import local_model, parted
from unmask.training.loop import LoopConfig
from unmask.training.low_rank import LowRankConfig, changes, lower
from unmask.training.sources import Source, open_source
from unmask.training.transformer import (
    MaskedLoss,
    TransformerLoss,
    TransformerTask,
    captions_of,
    check_lengths,
)


@dataclass(frozen=True)
class Tuning:
    """A configuration file of ``unmask train transformer --from MODEL``: the model is that of
    ``--from``. With ``adapter`` what comes out is one, else a whole model."""

    data: DataConfig
    loop: LoopConfig
    loss: TransformerLoss = field(default_factory=TransformerLoss)
    adapter: LowRankConfig | None = None


class TuningTask(TransformerTask):
    """Guessing masked tokens of chosen pictures, with the weights of the model ``start``, a bundled
    name or a folder of the native layout."""

    def __init__(self, settings: Tuning, start: Path, device: str) -> None:
        if parted(start)[1] is not None:
            raise ConfigError(f"--from {start}: give the model without its adapter")
        self.start, _ = local_model(start)
        card_path = self.start / "model.json"
        if not card_path.is_file():
            raise ConfigError(f"--from {start}: not of the native layout: it has no model.json")
        self.card = config.load(ModelCard, card_path)
        backbone, condition = load_native(self.start / "transformer", device)
        if len(backbone.grid) != 2:
            raise ConfigError(f"--from {start}: draws clips; only models of pictures can be tuned")
        self.adapter = settings.adapter
        torch.manual_seed(settings.loop.seed)
        backbone.requires_grad_(True)
        if self.adapter is not None:
            lower(backbone, self.adapter)
        source = open_source(settings.data, settings.loop.seed, device)
        super().__init__(
            settings,
            picture_tokenizer(self.start, device),
            (source, open_source(settings.data, HELD_OUT, device)),
            _knowing(condition, source),
            backbone,
            device,
        )
        side = settings.data.scenes.size
        if (wanted := backbone.grid[0] * self.tokenizer.patch) != side:
            raise ConfigError(f"data.scenes.size: {side}; {self.card.name} draws {wanted} px")

    def save(self, average: nn.Module, folder: Path) -> None:
        """Write a complete model folder; or ``NAME.safetensors``, the adapter, by the name of the
        run's folder."""
        assert isinstance(average, MaskedLoss)
        name = folder.resolve().parent.name
        if self.adapter is not None:
            words = self.condition.words if isinstance(self.condition, TextCondition) else None
            made = changes(average.backbone)
            write_adapter(made, self.adapter.alpha, folder / f"{name}.safetensors", words)
            return
        shutil.copytree(
            self.start, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("transformer")
        )
        save_native(average.backbone, self.condition, folder / "transformer")
        described = f"{self.card.name}, tuned. {self.card.description}"
        card = replace(self.card, name=name, description=described)
        config.save_json(card, folder / "model.json")


def _knowing(condition: ConditionEncoder, source: Source) -> ConditionEncoder:
    """The condition encoder, with the words of the captions beside its own, if it has a list."""
    if not isinstance(condition, TextCondition):
        return condition
    captions = captions_of(source)
    check_lengths(condition, captions, "text tokens of the model, with the start")
    words = TextCondition.of_captions(condition.tokenizer, condition.length, captions).words
    return condition.with_words(words or ())
