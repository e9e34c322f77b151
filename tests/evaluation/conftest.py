"""A whole untrained model of 16 px pictures, an untrained judge of plain shapes, and a renderer."""

import pytest
import torch

from tests.worlds.scenes import shapes_renderer, untrained_judge
from unmask.families.base import ModelCard
from unmask.models.conditions import TextCondition
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.pipeline import Pipeline
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig


@pytest.fixture(scope="session")
def renderer() -> SceneRenderer:
    return shapes_renderer()


@pytest.fixture(scope="session")
def judge() -> Judge:
    return untrained_judge()


@pytest.fixture
def pipeline() -> Pipeline:
    torch.manual_seed(0)
    tokenizer = VQGAN(VQGANConfig((8, 8), (8, 8), 1, QuantizerConfig("fsq", levels=(4, 4))))
    condition = TextCondition.learn(["a red circle", "two blue squares"], 300, 64)
    backbone = NativeTransformer(
        NativeConfig(
            width=16,
            layers=2,
            heads=2,
            hidden=16,
            grid=(4, 4),
            codebook_size=16,
            condition="text",
            vocabulary=condition.vocabulary,
            condition_length=64,
        )
    )
    for parameter in backbone.parameters():  # else all logits are nearly alike
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    preset = {"scheduler": "confidence", "steps": 4, "temperature": 0.7}
    card = ModelCard("tiny", "Untrained.", scheduler="halton", presets=(preset,))
    return Pipeline(
        card,
        tokenizer.eval().requires_grad_(False),
        backbone.eval().requires_grad_(False),
        condition,
    )
