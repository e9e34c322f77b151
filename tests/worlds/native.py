"""A whole native model with random weights, small enough for every test."""

from pathlib import Path

import torch

from unmask import config
from unmask.card import ModelCard
from unmask.models.conditions import TextCondition
from unmask.models.folder import save_native
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.pipeline import Pipeline
from unmask.tokenizers.folder import save_slot_decoder, save_tokenizer
from unmask.tokenizers.key_frames import KeyFrameTokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig

PROMPT = "a red circle"


def native_pipeline(
    levels: tuple[int, ...] = (4, 3),
    *,
    stages: int = 1,
    condition_length: int = 10,
    enlarges: bool = False,
) -> Pipeline:
    """A model of 4x4 tokens whose side in pixels doubles at each of the ``stages``; its backbone
    knows 12 codes, whatever the levels of its tokenizer. One that ``enlarges`` draws twice as large
    as it reads."""
    torch.manual_seed(0)
    channels = (8,) * stages
    quantizer = QuantizerConfig("fsq", levels=levels)
    decoder = channels + (8,) * enlarges
    tokenizer = VQGAN(VQGANConfig(channels, decoder, 1, quantizer))
    condition = TextCondition.learn([PROMPT, "two blue squares"], 300, condition_length)
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
            condition_length=condition_length,
        )
    )
    for parameter in backbone.parameters():  # else all logits are nearly alike
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    preset: dict[str, object] = {"scheduler": "confidence", "steps": 5, "temperature": 0.7}
    card = ModelCard("tiny", "Untrained.", scheduler="halton", presets=(preset,))
    return Pipeline(
        card,
        tokenizer.eval().requires_grad_(False),
        backbone.eval().requires_grad_(False),
        condition,
    )


def write_native(folder: Path, levels: tuple[int, ...] = (4, 3)) -> Path:
    """The folder of a model: 8x8 pixels, 4x4 tokens."""
    return save_pipeline(native_pipeline(levels), folder)


def save_pipeline(pipeline: Pipeline, folder: Path) -> Path:
    """Write a native model as a folder that can be loaded."""
    tokenizer, backbone, condition = pipeline.tokenizer, pipeline.backbone, pipeline.condition
    if isinstance(tokenizer, KeyFrameTokenizer):
        save_slot_decoder(tokenizer.decoder, folder / "slots")
        tokenizer = tokenizer.pictures
    assert isinstance(tokenizer, VQGAN)
    assert isinstance(backbone, NativeTransformer)
    save_tokenizer(tokenizer, folder / "tokenizer")
    save_native(backbone, condition, folder / "transformer")
    config.save_json(pipeline.card, folder / "model.json")
    return folder
