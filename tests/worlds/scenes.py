"""A renderer of plain shapes, and a judge of them with random weights."""

import torch

from unmask.scenes.judge import Judge, JudgeConfig
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import BACKGROUNDS, COLOURS


def shapes_renderer() -> SceneRenderer:
    """Pictures of 16x16 pixels, a good part of the combinations held out."""
    return SceneRenderer(SpriteBank.of_shapes(), SceneConfig(16, held_out_percent=30))


def untrained_judge() -> Judge:
    """A judge of the plain shapes."""
    torch.manual_seed(0)
    config = JudgeConfig(
        nouns=SpriteBank.of_shapes().nouns,
        colours=tuple(COLOURS),
        backgrounds=tuple(BACKGROUNDS),
        channels=(8, 8, 8),
        blocks=0,
    )
    return Judge(config).eval().requires_grad_(False)
