"""What aMUSEd and Meissonic share: the borders of their networks, with the published tensor names.

Facts: open-muse and diffusers' UVit2DModel (Apache-2.0), rewritten here. In comments: places =
height x width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import attention_backend
from unmask.models.linear import Linear, Pointwise
from unmask.numerics import channels_last

MICRO_CONDITIONS = 5  # what a network is told of the picture: width, height, crop, aesthetic score


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


def sinusoid_rates(count: int, device: torch.device) -> Tensor:
    """By how much the angles of ``sinusoids`` turn with a number, (count,) fp32, falling from 1."""
    return torch.exp(-math.log(10000) * torch.arange(count, device=device) / count)


def sinusoids(values: Tensor, width: int = 256) -> Tensor:
    """The embedding (..., width) of numbers (...): cosines, then sines, of falling rates, fp32."""
    angles = values.float()[..., None] * sinusoid_rates(width // 2, values.device)
    return torch.cat([angles.cos(), angles.sin()], -1)


class HeadedAttention(nn.Module):
    """The base of the networks' attention: ``heads``, and a ``backend`` that can be chosen."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.backend = attention_backend("sdpa")

    def split(self, x: Tensor) -> Tensor:
        """(rows, heads, tokens, head width) of (rows, tokens, width)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def merged(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What the backend makes of them, (rows, tokens, width)."""
        return self.backend(query, key, value, None).transpose(1, 2).flatten(2)


class ConditionMLP(nn.Module):
    """Pooled text and micro-conditions (rows, source) to one vector (rows, width)."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(source, width, bias=False)
        self.linear_2 = Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        vector: Tensor = self.linear_2(F.silu(self.linear_1(x)))  # (rows, width)
        return vector


class TokenEmbedding(nn.Module):
    """Ids (rows, height, width) to (rows, channels, height, width)."""

    def __init__(self, vocabulary: int, width: int, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width)
        self.layer_norm = RMSNorm(width, epsilon)
        self.conv = nn.Conv2d(width, channels, 1, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.layer_norm(self.embeddings(ids))  #         (rows, height, width, ..)
        states: Tensor = self.conv(embedded.permute(0, 3, 1, 2))  # (rows, channels, height, ..)
        return states


class Downsample(nn.Module):
    """Four tokens into one."""

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, epsilon)
        self.conv = nn.Conv2d(channels, channels, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(channels_last(x)).permute(0, 3, 1, 2)  # (rows, channels, height, ..)
        states: Tensor = self.conv(normed)  #                       (rows, channels, height / 2, ..)
        return states


class Upsample(nn.Module):
    """One token into four."""

    def __init__(self, channels: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, epsilon)
        self.conv = nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(channels_last(x)).permute(0, 3, 1, 2)  # (rows, channels, height, ..)
        states: Tensor = self.conv(normed)  #                       (rows, channels, 2 x height, ..)
        return states


class CodeHead(nn.Module):
    """(rows, places, channels) to logits (rows, places, codebook)."""

    def __init__(self, channels: int, width: int, codebook: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.conv1 = Pointwise(channels, width)
        self.layer_norm = RMSNorm(width, epsilon)
        self.conv2 = Pointwise(width, codebook)

    def forward(self, x: Tensor) -> Tensor:
        # Norms sum in the order in which numbers lie.
        narrow = self.layer_norm(self.conv1(x).contiguous())  # (rows, places, width)
        logits: Tensor = self.conv2(narrow)  #                  (rows, places, codebook)
        return logits
