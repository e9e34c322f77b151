"""A whole native model with random weights, small enough for every test."""

from pathlib import Path

import torch

from unmask import config
from unmask.families.base import ModelCard
from unmask.models.conditions import TextCondition
from unmask.models.folder import save_native
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.tokenizers.folder import save_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig

PROMPT = "a red circle"


def write_native(folder: Path, levels: tuple[int, ...] = (4, 3)) -> Path:
    """A model folder: 8x8 pixels, 4x4 tokens."""
    torch.manual_seed(0)
    tokenizer = VQGAN(VQGANConfig((8,), (8,), 1, QuantizerConfig("fsq", levels=levels)))
    condition = TextCondition.learn([PROMPT, "two blue squares"], 300, 10)
    backbone = NativeTransformer(
        NativeConfig(
            width=16,
            layers=2,
            heads=2,
            hidden=16,
            grid=(4, 4),
            codebook_size=12,
            condition="text",
            vocabulary=condition.vocabulary,
            condition_length=10,
        )
    )
    for parameter in backbone.parameters():  # else all logits are nearly alike
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    save_tokenizer(tokenizer, folder / "tokenizer")
    save_native(backbone, condition, folder / "transformer")
    preset = {"scheduler": "confidence", "steps": 5, "temperature": 0.7}
    card = ModelCard("tiny", "Untrained.", scheduler="halton", presets=(preset,))
    config.save_json(card, folder / "model.json")
    return folder
