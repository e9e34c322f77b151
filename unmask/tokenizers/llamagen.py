"""LlamaGen's VQ tokenizer (arXiv 2406.06525), with the published tensor names.

Facts: FoundationVision/LlamaGen (MIT), rewritten here. It is a VQGAN whose codes lie on a sphere.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.published import check_sizes
from unmask.tokenizers.base import Tokenizer

GROUPS = 32
EPSILON = 1e-6


@dataclass(frozen=True)
class LlamaGenConfig:
    """Sizes; the defaults are those of VQ-16. ``multipliers`` of ``channels`` are listed from the
    pixels inward, one entry a resolution: each but the last halves it. VQ-8 has (1, 2, 2, 4).
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    latent_channels: int = 256
    codebook_size: int = 16384
    code_width: int = 8
    blocks: int = 2

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.channels % GROUPS:
            raise ValueError(f"channels: {self.channels}; give a multiple of {GROUPS}")
        if not self.multipliers:
            raise ValueError("multipliers: give one at least")


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=EPSILON)


def _swish(x: Tensor) -> Tensor:
    """As published: torch's own rounds in another way, and so do all the pixels then."""
    return x * x.sigmoid()


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.norm1 = _norm(source)
        self.conv1 = nn.Conv2d(source, target, 3, padding=1)
        self.norm2 = _norm(target)
        self.conv2 = nn.Conv2d(target, target, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(source, target, 1) if source != target else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(_swish(self.norm1(x)))
        changed: Tensor = self.conv2(_swish(self.norm2(hidden)))
        kept: Tensor = self.nin_shortcut(x)
        return kept + changed


class AttentionBlock(nn.Module):
    """Self-attention of one head over all places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        query, key, value = (conv(hidden).flatten(2) for conv in (self.q, self.k, self.v))
        weights = (query.transpose(1, 2) @ key * x.shape[1] ** -0.5).softmax(-1)
        attended = (value @ weights.transpose(1, 2)).view_as(x)
        changed: Tensor = self.proj_out(attended)
        return x + changed


class Downsample(nn.Module):
    """Half as many rows and columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # Padded at the right and the bottom alone.
        made: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return made


class Upsample(nn.Module):
    """Twice as many rows and columns."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return made


class Level(nn.Module):
    """The blocks of one resolution, and the way to the next; the lowest attends after each."""

    def __init__(
        self,
        widths: tuple[int, int],
        blocks: int,
        lowest: bool,
        downsamples: bool = False,
        upsamples: bool = False,
    ) -> None:
        super().__init__()
        source, target = widths
        self.res = nn.ModuleList(
            ResidualBlock(source if i == 0 else target, target) for i in range(blocks)
        )
        self.attn = nn.ModuleList(
            AttentionBlock(target) if lowest else nn.Identity() for _ in range(blocks)
        )
        self.downsample = Downsample(target) if downsamples else nn.Identity()
        self.upsample = Upsample(target) if upsamples else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for residual, attention in zip(self.res, self.attn, strict=True):
            x = attention(residual(x))
        made: Tensor = self.upsample(self.downsample(x))
        return made


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(channels, channels),
        AttentionBlock(channels),
        ResidualBlock(channels, channels),
    )


class Encoder(nn.Module):
    """From pixels to latents."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in (1, *config.multipliers)]
        levels = list(pairwise(widths))
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        self.conv_blocks = nn.Sequential(
            *(Level(pair, config.blocks, lowest=False, downsamples=True) for pair in levels[:-1]),
            Level(levels[-1], config.blocks, lowest=True),
        )
        self.mid = _middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.conv_blocks(self.conv_in(x)))
        made: Tensor = self.conv_out(_swish(self.norm_out(x)))
        return made


class Decoder(nn.Module):
    """From latents to pixels."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in reversed(config.multipliers)]
        levels = list(pairwise([widths[0], *widths]))
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid = _middle(widths[0])
        self.conv_blocks = nn.Sequential(
            *(
                Level(pair, config.blocks + 1, lowest=i == 0, upsamples=i < len(levels) - 1)
                for i, pair in enumerate(levels)
            )
        )
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_blocks(self.mid(self.conv_in(x)))
        made: Tensor = self.conv_out(_swish(self.norm_out(x)))
        return made


class Quantizer(nn.Module):
    """The nearest code by angle."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)

    def forward(self, latents: Tensor) -> Tensor:
        """The codes of latents (..., width)."""
        latents, codes = F.normalize(latents, dim=-1), self._codes()
        # All lengths are 1 but for rounding, which the squares undo as the published code does.
        squares = latents.square().sum(-1, keepdim=True) + codes.square().sum(-1)
        return (squares - 2 * latents @ codes.T).argmin(-1)

    def lookup(self, tokens: Tensor) -> Tensor:
        """Their code vectors, (..., width), of length 1."""
        return self._codes()[tokens]

    def _codes(self) -> Tensor:
        return F.normalize(self.embedding.weight, dim=-1)


class LlamaGenVQ(Tokenizer):
    """2 ** (len(multipliers) - 1) times fewer rows and columns than pixels."""

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config.codebook_size, config.code_width)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_width, 1)
        self.post_quant_conv = nn.Conv2d(config.code_width, config.latent_channels, 1)

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def patch(self) -> int:
        return int(2 ** (len(self.config.multipliers) - 1))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ConfigError(f"image of {width}x{height}: sides must be multiples of {self.patch}")
        latents = self.quant_conv(self.encoder(images * 2 - 1))
        tokens: Tensor = self.quantize(latents.permute(0, 2, 3, 1))
        return tokens

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        # Contiguous, or every convolution would take the channels last and round in another way.
        latents = self.quantize.lookup(tokens).permute(0, 3, 1, 2).contiguous()
        images: Tensor = self.decoder(self.post_quant_conv(latents))
        return (images.clamp(-1, 1) + 1) / 2
