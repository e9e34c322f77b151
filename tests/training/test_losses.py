import math

import pytest
import torch

from unmask.training.losses import gradient_difference, psnr


@pytest.mark.parametrize(("off", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0), (0.0, 100.0)])
def test_psnr_of_a_constant_error(off: float, decibels: float) -> None:
    target = torch.zeros(2, 3, 4, 4)
    assert psnr(target + off, target).tolist() == pytest.approx([decibels] * 2, abs=1e-3)


def test_psnr_is_told_for_each_picture() -> None:
    target = torch.rand(3, 3, 8, 8)
    images = target + torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1, 1)
    expected = [-20 * math.log10(off) for off in (0.1, 0.2, 0.3)]
    assert psnr(images, target).tolist() == pytest.approx(expected, abs=1e-3)


def test_gradient_difference_minds_edges_and_not_brightness() -> None:
    target = torch.zeros(1, 1, 4, 4)
    edge = target.clone()
    edge[..., 2:] = 1
    assert gradient_difference(target + 0.5, target) == 0
    # One of three horizontal steps is off by one, and no vertical step is.
    assert float(gradient_difference(edge, target)) == pytest.approx(1 / 3)
    assert float(gradient_difference(edge.mT, target)) == pytest.approx(1 / 3)
