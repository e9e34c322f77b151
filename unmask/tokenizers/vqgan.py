"""A convolutional image tokenizer in the VQGAN style, quick enough to train on a CPU.

The first and last layers trade space for channels (PixelUnshuffle and PixelShuffle by 2): full
resolution convolutions are most of a VQGAN's cost and bring nothing here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.quantizers import QUANTIZERS, Quantized, QuantizerConfig


@dataclass(frozen=True)
class VQGANConfig:
    """Channels are listed from the pixels inward, one entry a resolution: 1/2, 1/4, 1/8 ...

    A decoder of more resolutions than the encoder has enlarges: its pictures are twice as large for
    each further one, and what is encoded is made as small first (Muse's larger decoder, arXiv
    2301.00704, section 2.4).

    ``local`` makes each token a function of its own patch alone: equal patches get equal tokens
    wherever they are, which leaves a transformer much less to learn. The encoder then is a residual
    perceptron on patches, as wide as the last of ``encoder_channels``.
    """

    encoder_channels: tuple[int, ...]
    decoder_channels: tuple[int, ...]
    blocks: int
    quantizer: QuantizerConfig
    local: bool = False

    def __post_init__(self) -> None:
        if len(self.encoder_channels) > len(self.decoder_channels) or not self.encoder_channels:
            raise ValueError(
                "decoder_channels must list the resolutions of encoder_channels, or more"
            )
        for channels in self.encoder_channels + self.decoder_channels:
            if channels < 8 or channels % 8:
                raise ValueError(f"{channels} channels; the group norms need multiples of 8")
        if self.blocks < 0:
            raise ValueError(f"blocks: {self.blocks}; the least is 0")

    @property
    def enlargement(self) -> int:
        """How many times larger the decoder's pictures are than what the encoder reads."""
        return int(2 ** (len(self.decoder_channels) - len(self.encoder_channels)))


class Reconstruction(NamedTuple):
    """A round trip: unclamped ``images`` (batch, 3, height, width), tokens, quantizer's loss."""

    images: Tensor
    indices: Tensor
    loss: Tensor


class ResidualBlock(nn.Module):
    """Two convolutions beside what comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        changed: Tensor = self.conv2(F.silu(self.norm2(hidden)))
        return x + changed


class Upsample(nn.Module):
    """Twice as many rows and columns, by shuffling channels."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(source, target * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


class VQGAN(Tokenizer):
    """2 ** len(decoder_channels) times fewer rows and columns than pixels."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = QUANTIZERS[config.quantizer.kind](config.quantizer)
        self.encoder = _encoder(config, self.quantizer.width)
        self.decoder = _decoder(config, self.quantizer.width)

    @property
    def codebook_size(self) -> int:
        return self.quantizer.size

    @property
    def patch(self) -> int:
        return int(2 ** len(self.config.decoder_channels))

    def forward(self, images: Tensor) -> Reconstruction:
        """The differentiable round trip that training uses."""
        quantized = self._quantized(images)
        decoded = self.decoder(quantized.latents.permute(0, 3, 1, 2).to(images.dtype))
        return Reconstruction((decoded + 1) / 2, quantized.indices, quantized.loss)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        _check_sides(images, self.patch)
        return self._quantized(images).indices

    def _quantized(self, images: Tensor) -> Quantized:
        if self.config.enlargement > 1:
            images = F.avg_pool2d(images, self.config.enlargement)
        return self.read(images)

    def read(self, images: Tensor) -> Quantized:
        """The tokens of pictures of the size that the encoder reads."""
        quantized: Quantized = self.quantizer(self.encoder(images * 2 - 1).permute(0, 2, 3, 1))
        return quantized

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        latents = self.quantizer.lookup(tokens).permute(0, 3, 1, 2)
        weight = self.decoder[0].weight
        assert isinstance(weight, Tensor)
        images: Tensor = (self.decoder(latents.to(weight.dtype)).float() + 1) / 2
        return images.clamp(0, 1)


class Reduced(Tokenizer):
    """A tokenizer whose decoder enlarges, at the size that its encoder reads: what it draws is
    averaged over squares."""

    def __init__(self, whole: VQGAN) -> None:
        super().__init__()
        self.whole = whole

    @property
    def codebook_size(self) -> int:
        return self.whole.codebook_size

    @property
    def patch(self) -> int:
        return self.whole.patch // self.whole.config.enlargement

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        _check_sides(images, self.patch)
        return self.whole.read(images).indices

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        return F.avg_pool2d(self.whole.decode(tokens), self.whole.config.enlargement)


def reduced(tokenizer: VQGAN) -> VQGAN | Reduced:
    """The tokenizer at the size that its encoder reads."""
    return Reduced(tokenizer).eval() if tokenizer.config.enlargement > 1 else tokenizer


class PatchBlock(nn.Module):
    """A residual perceptron at every position; the norm is over channels, so nothing is mixed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.wide = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.narrow(F.silu(self.wide(self.norm(x.permute(0, 2, 3, 1)))))
        return x + changed.permute(0, 3, 1, 2)


def _check_sides(images: Tensor, patch: int) -> None:
    height, width = images.shape[-2:]
    if height % patch or width % patch:
        raise ConfigError(f"image of {width}x{height}: sides must be multiples of {patch}")


def _local_encoder(config: VQGANConfig, width: int) -> nn.Sequential:
    patch, channels = 2 ** len(config.encoder_channels), config.encoder_channels[-1]
    return nn.Sequential(
        nn.PixelUnshuffle(patch),
        nn.Conv2d(3 * patch**2, channels, 1),
        *(PatchBlock(channels) for _ in range(config.blocks)),
        nn.Conv2d(channels, width, 1),
    )


def _encoder(config: VQGANConfig, width: int) -> nn.Sequential:
    if config.local:
        return _local_encoder(config, width)
    channels = config.encoder_channels
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, channels[0], 3, padding=1)]
    for i, inner in enumerate(channels):
        if i > 0:
            layers.append(nn.Conv2d(channels[i - 1], inner, 2, stride=2))
        layers += [ResidualBlock(inner) for _ in range(config.blocks)]
    layers += [nn.GroupNorm(8, channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], width, 1)]
    return nn.Sequential(*layers)


def _decoder(config: VQGANConfig, width: int) -> nn.Sequential:
    channels = config.decoder_channels
    layers: list[nn.Module] = [nn.Conv2d(width, channels[-1], 3, padding=1)]
    for i in reversed(range(len(channels))):
        layers += [ResidualBlock(channels[i]) for _ in range(config.blocks)]
        if i > 0:
            layers.append(Upsample(channels[i], channels[i - 1]))
    layers += [nn.GroupNorm(8, channels[0]), nn.SiLU(), nn.Conv2d(channels[0], 12, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(2))
