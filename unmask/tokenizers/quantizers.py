"""Quantizers: continuous latents to codebook indices and back, as peers behind one class.

Every quantizer works in fp32 whatever the autocast state, since distances and roundings in
16 bits put latents into wrong codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError


@dataclass(frozen=True)
class QuantizerConfig:
    """Which quantizer, and its size: ``levels`` for FSQ, ``bits`` for LFQ, the rest for VQ."""

    kind: Literal["vq", "fsq", "lfq"]
    levels: tuple[int, ...] = ()
    bits: int = 10
    codes: int = 1024
    width: int = 16
    update: Literal["ema", "gradient"] = "ema"
    decay: float = 0.99
    revive_below: float = 0.05
    commitment: float = 0.25
    entropy: float = 0.02


class Quantized(NamedTuple):
    """``latents`` with straight-through gradients, ``indices`` and the auxiliary ``loss``."""

    latents: Tensor  # (batch, height, width, quantizer width)
    indices: Tensor  # (batch, height, width), int64
    loss: Tensor  # ()


class Quantizer(nn.Module):
    """The base of the three kinds; ``size`` is the codebook size, ``width`` the latent channels."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.width = width

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize (batch, height, width, channels) latents."""
        with torch.autocast(latents.device.type, enabled=False):
            return self.quantize(latents.float())

    def quantize(self, latents: Tensor) -> Quantized:
        """What ``forward`` returns; latents are fp32 and autocast is off."""
        raise TypeError(f"{type(self).__name__} is abstract")

    def lookup(self, indices: Tensor) -> Tensor:
        """The latents (..., channels) of codebook indices (...)."""
        raise TypeError(f"{type(self).__name__} is abstract")

    def digits(self, indices: Tensor) -> Tensor:
        """The digit of each channel, int64 from 0 (..., channels); ConfigError if codes have
        none."""
        raise ConfigError("codes of a vq have no digits: fsq and lfq have")


class FiniteScalar(Quantizer):
    """FSQ: each channel is rounded to a few levels; no codebook to learn (arXiv 2309.15505)."""

    levels: Tensor
    basis: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        if not config.levels or min(config.levels) < 2:
            raise ConfigError(
                f"quantizer.levels: {config.levels}; give two or more for each channel"
            )
        levels = torch.tensor(config.levels)
        super().__init__(int(levels.prod()), len(config.levels))
        self.register_buffer("levels", levels, persistent=False)
        basis = torch.cat([torch.ones(1, dtype=torch.long), levels[:-1].cumprod(0)])
        self.register_buffer("basis", basis, persistent=False)

    def quantize(self, latents: Tensor) -> Quantized:
        half = (self.levels - 1) * (1 + 1e-3) / 2
        # With an even number of levels, zero would lie on a rounding edge: shift by half a level.
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(latents + torch.atanh(offset / half)) * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        digits = rounded.detach().long() + self.levels // 2
        return Quantized(
            rounded / (self.levels // 2), (digits * self.basis).sum(-1), latents.new_zeros(())
        )

    def lookup(self, indices: Tensor) -> Tensor:
        return (self.digits(indices) - self.levels // 2) / (self.levels // 2)

    def digits(self, indices: Tensor) -> Tensor:
        return indices.unsqueeze(-1) // self.basis % self.levels


class LookupFree(Quantizer):
    """LFQ: the sign of each channel is one bit; entropy spreads the use (arXiv 2310.05737)."""

    bit_values: Tensor
    codebook: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        if not 1 <= config.bits <= 14:
            raise ConfigError(f"quantizer.bits: {config.bits}; the entropy term needs 1 to 14")
        super().__init__(2**config.bits, config.bits)
        self.config = config
        self.register_buffer("bit_values", 2 ** torch.arange(config.bits), persistent=False)
        self.register_buffer("codebook", self.lookup(torch.arange(self.size)), persistent=False)

    def quantize(self, latents: Tensor) -> Quantized:
        signs = torch.where(latents > 0, 1.0, -1.0)
        logits = 2 * latents.reshape(-1, self.width) @ self.codebook.T / 0.1
        probabilities = logits.softmax(-1)
        entropy = -(probabilities * logits.log_softmax(-1)).sum(-1).mean()
        mean = probabilities.mean(0)
        together = -(mean * mean.clamp_min(1e-9).log()).sum()
        commitment = F.mse_loss(latents, signs)
        loss = self.config.commitment * commitment + self.config.entropy * (entropy - together)
        indices = ((signs > 0) * self.bit_values).sum(-1)
        return Quantized(latents + (signs - latents).detach(), indices, loss)

    def lookup(self, indices: Tensor) -> Tensor:
        return self.digits(indices) * 2.0 - 1.0

    def digits(self, indices: Tensor) -> Tensor:
        return ((indices.unsqueeze(-1) & self.bit_values) > 0).long()


class Vector(Quantizer):
    """VQ: the nearest of learned vectors, moved by means or by gradients (arXiv 1711.00937).

    Codes that are hardly used are put onto random latents of the batch, or they stay dead.
    """

    embedding: Tensor
    usage: Tensor
    sums: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        if config.codes < 2 or config.width < 1:
            raise ConfigError(
                f"quantizer: {config.codes} codes of width {config.width}; the least are 2 and 1"
            )
        super().__init__(config.codes, config.width)
        self.config = config
        start = torch.randn(config.codes, config.width) / config.width**0.5
        if config.update == "gradient":
            self.embedding = nn.Parameter(start)
        else:
            self.register_buffer("embedding", start)
            self.register_buffer("sums", start.clone())
        self.register_buffer("usage", torch.ones(config.codes))

    def quantize(self, latents: Tensor) -> Quantized:
        flat = latents.reshape(-1, self.width)
        with torch.no_grad():
            indices = torch.cdist(flat, self.embedding).argmin(-1)
        chosen = self.embedding[indices]
        loss = self.config.commitment * F.mse_loss(flat, chosen.detach())
        if self.config.update == "gradient":
            loss = loss + F.mse_loss(chosen, flat.detach())
        if self.training:
            self._update(flat.detach(), indices)
        through = flat + (chosen - flat).detach()
        return Quantized(through.view_as(latents), indices.view(latents.shape[:-1]), loss)

    def lookup(self, indices: Tensor) -> Tensor:
        return self.embedding[indices]

    @torch.no_grad()
    def _update(self, flat: Tensor, indices: Tensor) -> None:
        decay = self.config.decay
        counts = torch.bincount(indices, minlength=self.size).float()
        self.usage.lerp_(counts, 1 - decay)
        if self.config.update == "ema":
            batch_sums = torch.zeros_like(self.sums).index_add_(0, indices, flat)
            self.sums.lerp_(batch_sums, 1 - decay)
            self.embedding.copy_(self.sums / self.usage.clamp_min(1e-3).unsqueeze(-1))
        dead = self.usage < self.config.revive_below
        fresh = flat[torch.randint(len(flat), (self.size,), device=flat.device)]
        self.embedding.copy_(torch.where(dead.unsqueeze(-1), fresh, self.embedding))
        self.usage.masked_fill_(dead, 1.0)
        if self.config.update == "ema":
            self.sums.copy_(torch.where(dead.unsqueeze(-1), fresh, self.sums))


QUANTIZERS: dict[str, Callable[[QuantizerConfig], Quantizer]] = {
    "vq": Vector,
    "fsq": FiniteScalar,
    "lfq": LookupFree,
}
