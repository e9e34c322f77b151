"""What aMUSEd and Meissonic share: the borders of their networks, with the published tensor names.

Facts: open-muse and diffusers' UVit2DModel (Apache-2.0), rewritten here.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.linear import Linear, Pointwise


class RMSNorm(nn.Module):
    """RMS norm over the last axis, its mean of squares in fp32."""

    def __init__(self, width: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            scaled = scaled.to(self.weight.dtype)
        return scaled * self.weight


def channels_last(x: Tensor) -> Tensor:
    """(rows, height, width, channels), contiguous, of (rows, channels, height, width).

    How a convolution lays out one row may differ from how it does several, and the order in which
    a norm sums follows the layout: without this a row would depend on its neighbours.
    """
    return x.permute(0, 2, 3, 1).contiguous()


def sinusoids(values: Tensor, width: int = 256) -> Tensor:
    """The embedding (..., width) of numbers (...): cosines, then sines, of falling rates, fp32."""
    half = width // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, device=values.device) / half)
    angles = values.float()[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


class ConditionMLP(nn.Module):
    """Pooled text and micro-conditions (rows, source) to one vector (rows, width)."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(source, width, bias=False)
        self.linear_2 = Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return made


class TokenEmbedding(nn.Module):
    """Ids (rows, height, width) to (rows, channels, height, width)."""

    def __init__(self, vocabulary: int, width: int, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width)
        self.layer_norm = RMSNorm(width, epsilon)
        self.conv = nn.Conv2d(width, channels, 1, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        made: Tensor = self.conv(self.layer_norm(self.embeddings(ids)).permute(0, 3, 1, 2))
        return made


class Downsample(nn.Module):
    """Four tokens into one."""

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, epsilon)
        self.conv = nn.Conv2d(channels, channels, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(self.norm(channels_last(x)).permute(0, 3, 1, 2))
        return made


class Upsample(nn.Module):
    """One token into four."""

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, epsilon)
        self.conv = nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(self.norm(channels_last(x)).permute(0, 3, 1, 2))
        return made


class CodeHead(nn.Module):
    """(rows, places, channels) to logits (rows, places, codebook)."""

    def __init__(self, channels: int, width: int, codebook: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.conv1 = Pointwise(channels, width)
        self.layer_norm = RMSNorm(width, epsilon)
        self.conv2 = Pointwise(width, codebook)

    def forward(self, x: Tensor) -> Tensor:
        # Norms sum in the order in which numbers lie.
        made: Tensor = self.conv2(self.layer_norm(self.conv1(x).contiguous()))
        return made
