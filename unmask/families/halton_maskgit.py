"""Halton-MaskGIT (arXiv 2503.17076) as ``unmask convert`` writes it: what is published are pickles,
which a server must not read."""

import json
from pathlib import Path

import torch

from unmask import config
from unmask.card import ModelCard
from unmask.checkpoint import DTYPES, load_module
from unmask.devices import Precision
from unmask.errors import ConfigError
from unmask.families.base import Family, Parts
from unmask.models.conditions import LabelCondition
from unmask.models.halton_maskgit import HaltonConfig, HaltonMaskGIT
from unmask.tokenizers.llamagen import LlamaGenConfig, LlamaGenVQ

CLASS = "HaltonMaskGIT"
FILES = (
    "model_index.json",
    "labels.txt",
    "transformer/config.json",
    "transformer/model.safetensors",
    "tokenizer/config.json",
    "tokenizer/model.safetensors",
)

# The published w of (1 + w) c - w u by width, alike for both grids; it falls as models grow, so a
# size without one takes that of the largest.
_GUIDANCE = {384: 1.5, 512: 1.0, 768: 0.7, 1024: 0.5}


def explains(folder: Path) -> str | None:
    """Why a folder with the published files is no model yet; None if it has none of them."""
    for path in sorted(folder.glob("*")):
        if path.suffix in (".pth", ".pt"):
            return (
                f"{folder}: holds {path.suffix} files, which are programs as much as weights; "
                "if they are Halton-MaskGIT's, convert them first with `unmask convert`"
            )
    return None


def _recognises(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("_class_name") == CLASS


def _card(folder: Path, name: str) -> ModelCard:
    """The published settings: of Halton's sampler, and of its confidence baseline."""
    settings = config.load(HaltonConfig, folder / "transformer" / "config.json")
    confidence: dict[str, object] = {
        "steps": 12,
        "scheduler": "confidence",
        "mask_schedule": "arccos",
        "choice_temperature": 4.5,
        "guidance_scale": 4.0,
        "guidance": "linear",
    }
    others: dict[str, object] = {
        "mask_schedule": "arccos",
        "guidance_scale": 1 + _GUIDANCE.get(settings.width, 0.5),
        "temperature_warmup": 1,  # as it was evaluated
    }
    return ModelCard(
        name=name,
        description=f"Halton-MaskGIT: draws a picture of one of {settings.classes} classes",
        scheduler="halton",
        presets=(confidence,),
        steps=32,
        defaults=others,
    )


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    settings = config.load(HaltonConfig, folder / "transformer" / "config.json")
    vq = config.load(LlamaGenConfig, folder / "tokenizer" / "config.json")
    condition = LabelCondition.load(folder)
    if vq.codebook_size != settings.codebook_size:
        raise ConfigError(
            f"{folder}: the transformer knows {settings.codebook_size} codes, "
            f"the tokenizer has {vq.codebook_size}"
        )
    if len(condition.labels) != settings.classes:
        raise ConfigError(
            f"{folder / 'labels.txt'}: {len(condition.labels)} labels, "
            f"but the transformer knows {settings.classes} classes"
        )
    tokenizer = load_module(
        lambda: LlamaGenVQ(vq), folder / "tokenizer" / "model.safetensors", torch.float32
    )
    backbone = load_module(
        lambda: HaltonMaskGIT(settings),
        folder / "transformer" / "model.safetensors",
        DTYPES[precision],
    )
    return Parts(tokenizer.to(device), backbone.to(device), condition)


HALTON = Family(
    name="halton-maskgit",
    layout="model_index.json of a HaltonMaskGIT, which `unmask convert` writes",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=lambda precision: FILES,
)
