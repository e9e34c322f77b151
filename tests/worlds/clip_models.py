"""A whole model of clips with random weights: 12 codes, frames of 2x2 tokens of 4x4 pixels unless
another size is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.worlds.native import PROMPT, save_pipeline
from unmask.card import ModelCard
from unmask.clips.clip import Clip
from unmask.models.conditions import TextCondition
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.pipeline import RATE, Pipeline
from unmask.tokenizers.key_frames import KeyFrameTokenizer, SlotDecoderConfig, slot_decoder_for
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig

PATCH, SLOT = 4, 4


def clip_tokenizer(stages: int = 2) -> KeyFrameTokenizer:
    """Patches of 4 pixels, whose side doubles at each of further ``stages``, slots of 4 frames; a
    token depends on its own patch alone."""
    torch.manual_seed(1)
    quantizer = QuantizerConfig("fsq", levels=(4, 3))
    pictures = VQGAN(VQGANConfig((8,) * stages, (8,) * stages, 1, quantizer, local=True))
    decoder = slot_decoder_for(pictures, SlotDecoderConfig(SLOT, (8, 16), 1))
    for parameter in decoder.parameters():  # as it starts it only blends its two key frames
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return KeyFrameTokenizer(pictures, decoder).eval().requires_grad_(False)


def clip_pipeline(
    slots: int = 3, *, stages: int = 2, side: int = 2, condition_length: int = 10, **more: Any
) -> Pipeline:
    """A model that draws so many slots at once, of ``side`` x ``side`` tokens; ``more`` is for the
    configuration of its backbone."""
    tokenizer = clip_tokenizer(stages)
    condition = TextCondition.learn([PROMPT, "two blue squares"], 300, condition_length)
    backbone = NativeTransformer(
        NativeConfig(
            width=16,
            layers=2,
            heads=2,
            hidden=16,
            grid=(slots, side, side),
            codebook_size=12,
            condition="text",
            vocabulary=condition.vocabulary,
            condition_length=condition_length,
            **more,
        )
    )
    for parameter in backbone.parameters():  # else all logits are nearly alike
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    card = ModelCard("tiny-clips", "Untrained.", "halton", ({"scheduler": "halton", "steps": 3},))
    return Pipeline(card, tokenizer, backbone.eval().requires_grad_(False), condition)


def write_clip_model(folder: Path, slots: int = 3, **more: Any) -> Path:
    """The folder of such a model."""
    return save_pipeline(clip_pipeline(slots, **more), folder)


def noise_clip(frames: int, width: int = 8, height: int = 8, seed: int = 0) -> Clip:
    """Frames in which no two pixels are alike."""
    chance = np.random.default_rng(seed)
    return Clip(chance.integers(0, 256, (frames, height, width, 3), np.uint8), RATE)
