"""A miniature Halton-MaskGIT and its tokenizer as they are published: two pickles."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.fixtures.make_halton import seeded_weights
from unmask.convert import HEADS, convert_halton
from unmask.models.halton_maskgit import HaltonConfig, HaltonMaskGIT
from unmask.tokenizers.llamagen import LlamaGenConfig, LlamaGenVQ

# Three heads of ten channels, as in the published "small" narrower than the whole.
TRANSFORMER = HaltonConfig(width=32, layers=2, heads=3, hidden=40, grid=4, codebook_size=24)
TOKENIZER = LlamaGenConfig(
    channels=32, multipliers=(1, 2), latent_channels=8, codebook_size=24, code_width=4, blocks=1
)
CELLS = TRANSFORMER.grid**2
SIDE = 8  # pixels


def transformer_state(settings: HaltonConfig = TRANSFORMER) -> dict[str, Tensor]:
    """The tensors of a published file: the tied head is there twice."""
    with torch.device("meta"):
        model = HaltonMaskGIT(settings)
    state = seeded_weights({name: tensor.shape for name, tensor in model.state_dict().items()})
    return {**state, "head.weight": state["tok_emb.weight"]}


def tokenizer_state(settings: LlamaGenConfig = TOKENIZER) -> dict[str, Tensor]:
    """The tensors of a published file: what the training counted is there too."""
    with torch.device("meta"):
        model = LlamaGenVQ(settings)
    state = seeded_weights({name: tensor.shape for name, tensor in model.state_dict().items()})
    return {**state, "quantize.codebook_used": torch.zeros(65536)}


def write_transformer(folder: Path, state: dict[str, Tensor] | None = None, **more: Any) -> Path:
    """The transformer's file in the published form."""
    entries = {"iter": 7, "global_epoch": 1, "optimizer_state_dict": None, **more}
    path = folder / "ImageNet_256_tiny.pth"
    torch.save({**entries, "model_state_dict": state or transformer_state()}, path)
    return path


def write_tokenizer(folder: Path, state: dict[str, Tensor] | None = None) -> Path:
    """The tokenizer's file in the published form."""
    path = folder / "vq_ds16_c2i.pt"
    torch.save({"model": state or tokenizer_state()}, path)
    return path


def write_halton(folder: Path) -> Path:
    """The miniature, converted: a model folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(HEADS, TRANSFORMER.width, TRANSFORMER.heads)
        return convert_halton(write_transformer(folder), write_tokenizer(folder), folder / "tiny")
