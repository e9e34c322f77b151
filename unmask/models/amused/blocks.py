"""The blocks of aMUSEd's network: convolutional borders, and transformer layers between them."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.amused.config import AmusedConfig
from unmask.models.linear import Linear
from unmask.models.uvit import Downsample, HeadedAttention, RMSNorm, Upsample
from unmask.numerics import by_rows, channels_last

_BLOCK_EPSILON = 1e-6  # of the borders' attention norms, whatever the configuration says


class Attention(HeadedAttention):
    """Multi-head attention without biases; (rows, tokens, width) in and out."""

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__(heads)
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(source, width, bias=False)
        self.to_v = Linear(source, width, bias=False)
        self.to_out = nn.ModuleList([Linear(width, width, bias=False)])

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, heads, tokens, head) each, of (rows, tokens, source)."""
        return self.split(self.to_k(source)), self.split(self.to_v(source))

    def query(self, x: Tensor) -> Tensor:
        """(rows, heads, tokens, head) of (rows, tokens, width)."""
        return self.split(self.to_q(x))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out: Tensor = self.to_out[0](self.merged(query, key, value))  # (rows, tokens, width)
        return out


class ResponseNorm(nn.Module):
    """Global response norm over rows and columns of (rows, height, width, channels): channels that
    answer more than others do so still more (ConvNeXt V2, arXiv 2301.00808)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        strength = torch.norm(x, p=2, dim=(1, 2), keepdim=True)  #        (rows, 1, 1, channels)
        relative = strength / (strength.mean(-1, keepdim=True) + 1e-6)  # (rows, 1, 1, channels)
        raised: Tensor = self.gamma * (x * relative) + self.beta + x
        return raised


class ResidualBlock(nn.Module):
    """Depthwise convolution, then a perceptron at every place; modulated by the condition."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        channels = config.block_out_channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = RMSNorm(channels, config.layer_norm_eps)
        self.channelwise_linear_1 = Linear(channels, 4 * channels, bias=False)
        self.channelwise_norm = ResponseNorm(4 * channels)
        self.channelwise_linear_2 = Linear(4 * channels, channels, bias=False)
        self.cond_embeds_mapper = Linear(config.hidden_size, 2 * channels, bias=False)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        normed = self.norm(channels_last(self.depthwise(x)))  #    (rows, height, width, channels)
        hidden = by_rows(self._perceptron, normed)
        x = hidden.permute(0, 3, 1, 2) + x  #                      (rows, channels, height, width)
        scale, shift = modulation[:, :, None, None].chunk(2, 1)  # (rows, channels, 1, 1) each
        return x * (1 + scale) + shift

    def _perceptron(self, x: Tensor) -> Tensor:
        hidden = self.channelwise_norm(F.gelu(self.channelwise_linear_1(x)))  # (.., 4 x channels)
        narrow: Tensor = self.channelwise_linear_2(hidden)  #                   (.., channels)
        return narrow


class TextBlock(nn.Module):
    """Two cross-attentions to the text, and nothing else."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        channels, heads = config.block_out_channels, config.block_num_heads
        self.kv_mapper = (
            Linear(config.hidden_size, channels, bias=False)
            if config.hidden_size != channels
            else None
        )
        self.norm1 = RMSNorm(channels, _BLOCK_EPSILON)
        self.attn1 = Attention(channels, channels, heads)
        self.norm2 = RMSNorm(channels, _BLOCK_EPSILON)
        self.attn2 = Attention(channels, channels, heads)

    def keys_values(self, text: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of both attentions."""
        source = text if self.kv_mapper is None else self.kv_mapper(F.silu(text))
        return [self.attn1.keys_values(source), self.attn2.keys_values(source)]

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(rows, places, channels); ``keys`` and ``values`` have an entry an attention."""
        x = self.attn1(self.attn1.query(self.norm1(x)), keys[0], values[0]) + x
        x = self.attn2(self.attn2.query(self.norm2(x)), keys[1], values[1]) + x
        return x  # (rows, places, channels)


class Border(nn.Module):
    """Residual and text blocks by turns on (rows, channels, height, width)."""

    def __init__(self, config: AmusedConfig, way: Literal["down", "up"]) -> None:
        super().__init__()
        channels, epsilon = config.block_out_channels, config.layer_norm_eps
        down, up = way == "down" and config.downsample, way == "up" and config.upsample
        self.downsample = Downsample(channels, epsilon) if down else None
        self.res_blocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.num_res_blocks))
        self.attention_blocks = nn.ModuleList(
            TextBlock(config) for _ in range(config.num_res_blocks)
        )
        self.upsample = Upsample(channels, epsilon) if up else None

    def encode(self, text: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and modulations, as a prefix holds them."""
        pairs = [pair for _, block in self._blocks() for pair in block.keys_values(text)]
        keys, values = zip(*pairs, strict=True)
        active = F.silu(pooled)
        modulations = [block.cond_embeds_mapper(active) for block, _ in self._blocks()]
        return torch.stack(keys), torch.stack(values), torch.stack(modulations)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, modulations: Tensor) -> Tensor:
        if self.downsample is not None:
            x = self.downsample(x)
        height, width = x.shape[-2:]
        for i, (residual, text) in enumerate(self._blocks()):
            x = residual(x, modulations[i])
            pair = slice(2 * i, 2 * i + 2)  # the two attentions of a text block
            places = channels_last(x).flatten(1, 2)  #                  (rows, places, channels)
            places = text(places, keys[pair], values[pair])
            x = places.transpose(1, 2).unflatten(2, (height, width))  # (rows, channels, height, ..)
        return x if self.upsample is None else self.upsample(x)

    def _blocks(self) -> list[tuple[ResidualBlock, TextBlock]]:
        return [
            (residual, text)
            for residual, text in zip(self.res_blocks, self.attention_blocks, strict=True)
            if isinstance(residual, ResidualBlock) and isinstance(text, TextBlock)
        ]


class AdaptiveNorm(nn.Module):
    """A norm of (rows, tokens, width) whose result the condition scales and shifts."""

    def __init__(self, width: int, norm: nn.Module) -> None:
        super().__init__()
        self.linear = Linear(width, 2 * width, bias=False)
        self.norm = norm

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation[:, None].chunk(2, -1)  # (rows, 1, width) each
        modulated: Tensor = self.norm(x) * (1 + scale) + shift
        return modulated  #                                (rows, tokens, width)


class GatedLinear(nn.Module):
    """A linear layer, half of whose outputs gate the other half through GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = Linear(width, 2 * hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)  # (rows, tokens, hidden) each
        gated: Tensor = value * F.gelu(gate)
        return gated


class FeedForward(nn.Module):
    """A gated linear layer and one back to the width."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # In the middle dropout stood: its place keeps the published names of the others.
        self.net = nn.Sequential(
            GatedLinear(width, hidden), nn.Identity(), Linear(hidden, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(self.net, x)


class Layer(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        width, heads, epsilon = (
            config.hidden_size,
            config.num_attention_heads,
            config.layer_norm_eps,
        )
        self.norm1 = AdaptiveNorm(width, RMSNorm(width, epsilon))
        self.attn1 = Attention(width, width, heads)
        self.norm2 = AdaptiveNorm(width, RMSNorm(width, epsilon))
        self.attn2 = Attention(width, width, heads)
        self.norm3 = AdaptiveNorm(width, nn.LayerNorm(width, epsilon, bias=False))
        self.ff = FeedForward(width, config.intermediate_size)

    def modulations(self, pooled: Tensor) -> list[Tensor]:
        """Of the three norms, (rows, 2 x width) each."""
        active = F.silu(pooled)
        return [norm.linear(active) for norm in (self.norm1, self.norm2, self.norm3)]
