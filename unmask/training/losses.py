"""What a reconstruction is worth."""

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_WEIGHT = 1e6  # of a term of a loss


def gradient_difference(images: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients: edges stay sharp."""
    horizontal = (images.diff(dim=-1) - target.diff(dim=-1)).abs().mean()
    vertical = (images.diff(dim=-2) - target.diff(dim=-2)).abs().mean()
    return horizontal + vertical


def psnr(images: Tensor, target: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of each picture of a batch in [0, 1]."""
    error = F.mse_loss(images, target, reduction="none").flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10))
