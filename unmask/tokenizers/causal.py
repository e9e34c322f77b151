"""A causal 3-D convolutional tokenizer of clips, in the manner of MAGVIT-v2 (arXiv 2310.05737).

1 + 4k frames are 1 + k slots, and the first k slots do not change with the frames that follow:
convolutions look back in time only, the first frame is repeated before the beginning (zeros would
tell a window from a beginning), and norms are of one frame. It is a peer for research: its decoder
looks further back than one slot, so it is no ``ClipTokenizer``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.tokenizers.quantizers import QUANTIZERS, QuantizerConfig

SLOT = 4  # frames; two halvings in time


@dataclass(frozen=True)
class CausalConfig:
    """Channels at 1/2, 1/4 and 1/8 of the side, residual blocks at each, and the quantizer."""

    channels: tuple[int, int, int]
    blocks: int
    quantizer: QuantizerConfig

    def __post_init__(self) -> None:
        if min(self.channels) < 8 or any(channels % 8 for channels in self.channels):
            raise ValueError(f"channels: {self.channels}; the group norms need multiples of 8")
        if self.blocks < 0:
            raise ValueError(f"blocks: {self.blocks}; the least is 0")


class ClipReconstruction(NamedTuple):
    """A round trip: unclamped ``frames`` (batch, frames, 3, height, width), tokens (batch, slots,
    rows, columns) and the quantizer's loss."""

    frames: Tensor
    indices: Tensor
    loss: Tensor


class CausalConv(nn.Module):
    """A convolution over (batch, channels, frames, rows, columns) that looks back ``time - 1``
    frames, the first being repeated before the beginning; ``stride`` in time keeps the first."""

    def __init__(self, source: int, target: int, time: int = 3, side: int = 3, stride: int = 1):
        super().__init__()
        self.back = time - 1
        padding = (0, side // 2, side // 2)
        self.conv = nn.Conv3d(source, target, (time, side, side), (stride, 1, 1), padding)

    def forward(self, x: Tensor) -> Tensor:
        before = x[:, :, :1].expand(-1, -1, self.back, -1, -1)
        out: Tensor = self.conv(torch.cat([before, x], 2))
        return out


class FrameNorm(nn.Module):
    """A group norm of each frame by itself: over the clip it would look ahead."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        normed: Tensor = self.norm(frames.flatten(0, 1)).view(frames.shape)
        return normed.transpose(1, 2)


class CausalBlock(nn.Module):
    """Two causal convolutions beside what comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            FrameNorm(channels), nn.SiLU(), CausalConv(channels, channels),
            FrameNorm(channels), nn.SiLU(), CausalConv(channels, channels, time=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.layers(x)
        return x + changed


class Halve(nn.Module):
    """Half as many rows and columns, and frames but for the first."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(source, target, (1, 2, 2), (1, 2, 2))
        self.time = CausalConv(target, target, side=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.time(self.space(x))
        return halved


class Double(nn.Module):
    """The way back: channels become rows and columns, and frames. Of the first frame's two the
    former is dropped."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.conv = CausalConv(source, target * 8, time=2, side=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        batch, channels, frames, rows, columns = x.shape
        x = x.view(batch, channels // 8, 2, 2, 2, frames, rows, columns)
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, 2 * frames, 2 * rows, 2 * columns)
        return x[:, :, 1:]


class CausalTokenizer(nn.Module):
    """Clips of 1 + 4k frames to (1 + k, rows, columns) tokens and back; a patch is 8 pixels."""

    patch = 8

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = QUANTIZERS[config.quantizer.kind](config.quantizer)
        fine, middle, deep = config.channels

        def blocks(channels: int) -> list[nn.Module]:
            return [CausalBlock(channels) for _ in range(config.blocks)]

        # Time is halved in the later stages.
        self.encoder = nn.Sequential(
            CausalConv(12, fine), *blocks(fine),
            Halve(fine, middle), *blocks(middle),
            Halve(middle, deep), *blocks(deep),
            FrameNorm(deep), nn.SiLU(), CausalConv(deep, self.quantizer.width, time=1, side=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            CausalConv(self.quantizer.width, deep), *blocks(deep),
            Double(deep, middle), *blocks(middle),
            Double(middle, fine), *blocks(fine),
            FrameNorm(fine), nn.SiLU(), CausalConv(fine, 12),
        )  # fmt: skip

    @property
    def codebook_size(self) -> int:
        """How many tokens there are to choose from."""
        return self.quantizer.size

    def forward(self, frames: Tensor) -> ClipReconstruction:
        """The differentiable round trip that training uses, of (batch, frames, 3, height, width)
        in [0, 1]."""
        quantized = self.quantizer(self._latents(frames))
        decoded = self._frames(quantized.latents.to(frames.dtype))
        return ClipReconstruction(decoded, quantized.indices, quantized.loss)

    @torch.no_grad()
    def encode_clips(self, frames: Tensor) -> Tensor:
        """The tokens (batch, slots, rows, columns) of frames; ConfigError unless there are 1 + 4k
        of them, whose sides are multiples of the patch."""
        count, (height, width) = frames.shape[1], frames.shape[-2:]
        if count % SLOT != 1 or height % self.patch or width % self.patch:
            raise ConfigError(
                f"{count} frames of {width}x{height}: give 1 + {SLOT}k, with sides that are "
                f"multiples of {self.patch}"
            )
        indices: Tensor = self.quantizer(self._latents(frames)).indices
        return indices

    @torch.no_grad()
    def decode_clips(self, tokens: Tensor) -> Tensor:
        """The frames (batch, frames, 3, height, width) in [0, 1] of tokens."""
        return self._frames(self.quantizer.lookup(tokens).float()).clamp(0, 1)

    def _latents(self, frames: Tensor) -> Tensor:
        """(batch, slots, rows, columns, width), not quantized."""
        small = F.pixel_unshuffle(frames * 2 - 1, 2).transpose(1, 2)
        latents: Tensor = self.encoder(small)
        return latents.permute(0, 2, 3, 4, 1)

    def _frames(self, latents: Tensor) -> Tensor:
        small = self.decoder(latents.permute(0, 4, 1, 2, 3)).transpose(1, 2)
        return (F.pixel_shuffle(small, 2) + 1) / 2
