import sys

import pytest
import torch

from unmask.errors import ConfigError
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.training.perceptual import Perceptual


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return Perceptual()


def _images() -> torch.Tensor:
    return SceneRenderer(SpriteBank.of_shapes(), SceneConfig(32)).draw(2, 0)[0]


def test_equal_pictures_are_no_distance_apart(perceptual: Perceptual) -> None:
    assert perceptual(_images(), _images()) == 0


def test_a_blurred_picture_is_nearer_than_another_picture(perceptual: Perceptual) -> None:
    images = _images()
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    distances = [float(perceptual(other, images)) for other in (blurred, images.flip(0))]
    assert 0 < distances[0] < distances[1] < 4


def test_gradients_reach_the_picture_and_no_weight(perceptual: Perceptual) -> None:
    other = torch.rand(1, 3, 32, 32, requires_grad=True)
    perceptual(other, torch.rand(1, 3, 32, 32)).backward()
    assert other.grad is not None
    assert other.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in perceptual.parameters())


def test_it_stays_in_evaluation_and_fp32(perceptual: Perceptual) -> None:
    images, other = _images(), _images().flip(0)
    plain = perceptual(other, images)
    perceptual.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(perceptual(other, images), plain)


def test_large_pictures_are_not_resized(perceptual: Perceptual) -> None:
    assert perceptual(torch.rand(1, 3, 160, 192), torch.rand(1, 3, 160, 192)) > 0


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match=r"unmask\[train\]"):
        Perceptual()
