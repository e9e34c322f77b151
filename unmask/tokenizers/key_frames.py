"""Clips as the picture tokens of key frames, with a decoder that draws the frames of each slot.

A key frame ends each slot, and its tokens are those of the picture: so a picture model can start a
clip model, and what stands still has the same tokens in every slot. The slot decoder reads two
neighbouring key frames, and moves what both show (backward warping with a mask to blend, as Super
SloMo has it, arXiv 1712.00080) before it draws what is left.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.tokenizers.clip import ClipTokenizer
from unmask.tokenizers.vqgan import VQGAN, ResidualBlock, Upsample

COARSE = 4  # pixels a side of the decoder's finer grid
PER_PIXEL = 8  # two flows of two, a mask, three colours
LARGEST_FLOW = 64.0  # pixels


@dataclass(frozen=True)
class SlotDecoderConfig:
    """Frames a slot, and the size of the decoder: its channels at a quarter and an eighth of the
    side."""

    slot: int = 4
    channels: tuple[int, int] = (96, 192)
    blocks: int = 3

    def __post_init__(self) -> None:
        if self.slot < 1:
            raise ValueError(f"slot: {self.slot} frames; the least is 1")
        for channels in self.channels:
            if channels < 8 or channels % 8:
                raise ValueError(f"{channels} channels; the group norms need multiples of 8")
        if self.blocks < 0:
            raise ValueError(f"blocks: {self.blocks}; the least is 0")


class SlotDecoder(nn.Module):
    """Draws the frames of a slot from the key frames at its two ends and from their latents, of
    which a picture may not show all."""

    def __init__(self, config: SlotDecoderConfig, latent_width: int) -> None:
        super().__init__()
        self.config = config
        fine, deep = config.channels
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(COARSE),
            nn.Conv2d(6 * COARSE**2, fine, 3, padding=1),
            ResidualBlock(fine),
        )
        self.down = nn.Conv2d(fine, deep, 2, stride=2)
        self.latents = nn.Conv2d(2 * latent_width, deep, 1)
        self.deep = nn.Sequential(*(ResidualBlock(deep) for _ in range(config.blocks)))
        self.up = Upsample(deep, fine)
        self.head = nn.Sequential(
            ResidualBlock(fine),
            nn.GroupNorm(8, fine),
            nn.SiLU(),
            nn.Conv2d(fine, config.slot * PER_PIXEL * COARSE**2, 1),
            nn.PixelShuffle(COARSE),
        )
        last = self.head[3]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, before: Tensor, after: Tensor, latents: Tensor) -> Tensor:
        """Frames (batch, slot, 3, height, width), not clamped, of key frames (batch, 3, height,
        width) and their latents (batch, 2 x width, rows, columns)."""
        fine = self.stem(torch.cat([before, after], 1) * 2 - 1)
        rows, columns = fine.shape[-2:]
        deep = self.down(F.pad(fine, (0, columns % 2, 0, rows % 2), mode="replicate"))
        deep = self.deep(deep + F.interpolate(self.latents(latents), deep.shape[-2:]))
        out = (
            self.head(fine + self.up(deep)[..., :rows, :columns])
            .unflatten(1, (self.config.slot, PER_PIXEL))
            .float()
        )
        flow_before, flow_after, mask, colours = out.split((2, 2, 1, 3), 2)
        slot = self.config.slot
        # Blended evenly in time before anything is learned; the last frame is the key frame.
        share = (torch.arange(1, slot + 1, device=out.device) / (slot + 1)).logit()
        mask = (mask + share.view(-1, 1, 1, 1)).sigmoid()
        moved = (1 - mask) * _warped(before, flow_before) + mask * _warped(after, flow_after)
        frames: Tensor = moved + colours
        return frames


def _warped(picture: Tensor, flow: Tensor) -> Tensor:
    """The pictures (batch, 3, height, width) seen at places that are ``flow`` (batch, slot, 2,
    height, width) pixels away, (batch, slot, 3, height, width)."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=flow.device),
        torch.arange(width, device=flow.device),
        indexing="ij",
    )
    flow = flow.clamp(-LARGEST_FLOW, LARGEST_FLOW)
    across = (x + 0.5 + flow[:, :, 0]) / width * 2 - 1
    down = (y + 0.5 + flow[:, :, 1]) / height * 2 - 1
    # The frames of a slot stand under each other: one call samples them all.
    grid = torch.stack([across, down], -1).flatten(1, 2)
    seen = F.grid_sample(picture.float(), grid, padding_mode="border", align_corners=False)
    batch, channels = picture.shape[:2]
    return seen.view(batch, channels, -1, height, width).transpose(1, 2)


class KeyFrameTokenizer(ClipTokenizer):
    """A picture tokenizer and a slot decoder."""

    def __init__(self, pictures: VQGAN, decoder: SlotDecoder) -> None:
        super().__init__()
        self.pictures, self.decoder = pictures, decoder

    @property
    def codebook_size(self) -> int:
        return self.pictures.codebook_size

    @property
    def patch(self) -> int:
        return self.pictures.patch

    @property
    def slot(self) -> int:
        return self.decoder.config.slot

    def encode(self, images: Tensor) -> Tensor:
        return self.pictures.encode(images)

    def decode(self, tokens: Tensor) -> Tensor:
        return self.pictures.decode(tokens)

    def encode_clips(self, frames: Tensor) -> Tensor:
        slots = self.slots(frames.shape[1])
        keys = frames[:, :: self.slot]
        tokens = self.pictures.encode(keys.flatten(0, 1))
        return tokens.view(-1, slots, *tokens.shape[1:])

    @torch.no_grad()
    def decode_slot(self, before: Tensor, tokens: Tensor) -> Tensor:
        return self.between(before, tokens).clamp(0, 1)

    @torch.no_grad()
    def decode_clips(self, tokens: Tensor) -> Tensor:
        keys = tokens.unbind(1)
        pictures = [self.decode(key) for key in keys]  # each ends a slot and begins another
        ends = zip(pairwise(keys), pairwise(pictures), strict=True)
        slots = [self._drawn(*tokens, *shown).clamp(0, 1) for tokens, shown in ends]
        return torch.cat([pictures[0].unsqueeze(1), *slots], 1)

    def between(self, before: Tensor, tokens: Tensor) -> Tensor:
        """``decode_slot`` without clamping, for training."""
        return self._drawn(before, tokens, self.decode(before), self.decode(tokens))

    def _drawn(self, before: Tensor, tokens: Tensor, shown: Tensor, after: Tensor) -> Tensor:
        """The frames between two key frames, whose pictures are ``shown`` and ``after``."""
        codes = torch.cat([self.pictures.quantizer.lookup(ends) for ends in (before, tokens)], -1)
        dtype = self.decoder.down.weight.dtype
        latents = codes.permute(0, 3, 1, 2).to(dtype)
        frames: Tensor = self.decoder(shown.to(dtype), after.to(dtype), latents)
        # What stands still is the picture, to the bit: there is nothing to guess, and no shimmer.
        changed = F.max_pool2d((before != tokens).float().unsqueeze(1), 3, 1, 1) > 0
        changed = changed.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return torch.where(changed.unsqueeze(1), frames, after.float().unsqueeze(1))


def slot_decoder_for(pictures: VQGAN, config: SlotDecoderConfig) -> SlotDecoder:
    """An untrained slot decoder; ConfigError if the tokens of ``pictures`` are too fine for it."""
    if pictures.patch % COARSE:
        raise ConfigError(f"a slot decoder needs a patch that is a multiple of {COARSE} pixels")
    return SlotDecoder(config, pictures.quantizer.width)
