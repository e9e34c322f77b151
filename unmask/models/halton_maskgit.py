"""Halton-MaskGIT's class-conditional transformer, with the published tensor names.

Facts: valeoai/Halton-MaskGIT (MIT; arXiv 2503.17076), rewritten here. The class acts through the
norms alone: each layer's shift, scale and gate come from it (AdaLN-Zero, as in DiT).

In comments: sequence = tokens + registers; head = width // heads.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.eight_bits import Rounded, lay_out, product, round_rows
from unmask.models.attention import attention_backend
from unmask.models.base import Condition, ImageBackbone, narrow
from unmask.models.linear import Linear, packed_rows_per_pass
from unmask.numerics import by_rows
from unmask.published import check_sizes
from unmask.sampling.backbone import Pass, RowTensors

EPSILON = 1e-5


@dataclass(frozen=True)
class HaltonConfig:
    """Sizes of a network. ``hidden`` is the feed-forward's width, ``grid`` the side of the flat
    square of tokens; heads are ``width // heads`` wide, so together they may be narrower than
    ``width``.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    grid: int
    codebook_size: int = 16384
    classes: int = 1000
    registers: int = 1

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.heads > self.width:
            raise ValueError(f"heads: {self.heads}; width {self.width} has room for fewer")


@dataclass(frozen=True)
class Prefix(RowTensors):
    """What every norm takes from the class: ``layers`` (layers, rows, 6, 1, width) in the order
    shift, scale and gate of the attention, then of the feed-forward; ``last`` (rows, 2, 1, width),
    shift and scale.
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 0)

    layers: Tensor
    last: Tensor


@dataclass(frozen=True)
class Memory(RowTensors):
    """``keys`` and ``values`` (layers, rows, heads, tokens, head) of a full pass, without those of
    the registers: a local pass computes these anew.
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 1)

    keys: Tensor
    values: Tensor


def _normed(x: Tensor) -> Tensor:
    """RMS norm over the last axis, computed in fp32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)).to(x.dtype)


class RMSNorm(nn.Module):
    """Divides by the root of the mean square, then scales and shifts."""

    def __init__(self, width: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.weight * _normed(x)
        return scaled if self.bias is None else scaled + self.bias


class Attention(nn.Module):
    """Self-attention. Queries and keys are normed over all heads together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        inner = width // heads * heads
        self.wq = Linear(width, inner, bias=False)
        self.wk = Linear(width, inner, bias=False)
        self.wv = Linear(width, inner, bias=False)
        self.wo = Linear(inner, width, bias=False)
        self.attend = attention_backend("sdpa")

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, sequence, head) of (rows, sequence, width)."""
        query, key = self._split(_normed(self.wq(x))), self._split(_normed(self.wk(x)))
        return query, key, self._split(self.wv(x))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = self.attend(query, key, value, None)  #            (rows, heads, sequence, head)
        out: Tensor = self.wo(attended.transpose(1, 2).flatten(2))  # (rows, sequence, width)
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = Linear(width, hidden, bias=False)
        self.w2 = Linear(hidden, width, bias=False)
        self.w3 = Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(self._feed, x)

    def _feed(self, x: Tensor) -> Tensor:
        fed: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))  # (rows, sequence, width)
        return fed


class Block(nn.Module):
    """Attention and a feed-forward, shifted, scaled and gated by the condition."""

    def __init__(self, config: HaltonConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), Linear(config.width, 6 * config.width))
        self.ln1 = RMSNorm(config.width)
        self.attn = Attention(config.width, config.heads)
        self.ln2 = RMSNorm(config.width)
        self.ff = FeedForward(config.width, config.hidden)


class LastNorm(nn.Module):
    """The norm before the head, shifted and scaled by the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_final = RMSNorm(width, bias=True)
        self.mlp = nn.Sequential(nn.SiLU(), Linear(width, 2 * width))


class Transformer(nn.Module):
    """The blocks, under their published name."""

    def __init__(self, config: HaltonConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))


class HeadBias(nn.Module):
    """All that the head has of its own: its weight is the token embedding."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(codes))


class HaltonMaskGIT(ImageBackbone):
    """A backbone over a square grid whose condition is a class id; ``classes`` is the null one.

    The published head has a column for the mask id too, and its sampler may draw it, to clamp it
    to the last code when all is done. That column is left out here: a masked token is no picture.
    """

    condition_kind = "label"
    gives_attention = False
    has_memory = True

    def __init__(self, config: HaltonConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_id = self.codebook_size = config.codebook_size
        self.grid = (config.grid, config.grid)
        self.cls_emb = nn.Embedding(config.classes + 1, config.width)
        self.tok_emb = nn.Embedding(config.codebook_size + 1, config.width)
        self.pos_emb = nn.Embedding(config.grid**2, config.width)
        self.reg_tokens = nn.Embedding(config.registers, config.width)
        self.transformer = Transformer(config)
        self.last_norm = LastNorm(config.width)
        self.head = HeadBias(config.codebook_size + 1)
        self.rounded_codes: Rounded | None = None  # of the token embedding, as the head reads it

    @property
    def rows_per_pass(self) -> int | None:
        """Some if packed: see ``models.rows``."""
        return packed_rows_per_pass(self._blocks()[0].attn.wq)

    def use_attention(self, name: str) -> None:
        """Choose the attention backend by name."""
        for block in self._blocks():
            block.attn.attend = attention_backend(name)

    def use_eight_bits(self) -> None:
        """See ``ImageBackbone``. The head gets a rounded copy of the token embedding."""
        super().use_eight_bits()
        self.rounded_codes = lay_out(round_rows(self.tok_emb.weight[: self.codebook_size]))

    def encode(self, condition: Condition) -> Prefix:
        """Every norm's shift, scale and gate for the classes ``condition.ids`` (rows, 1)."""
        label = self.cls_emb(condition.ids[:, 0])  #                            (rows, width)
        layers = torch.stack(
            [block.mlp(label) for block in self._blocks()]
        )  # (layers, rows, 6 x width)
        last: Tensor = self.last_norm.mlp(label)  #                             (rows, 2 x width)
        rows = len(label)
        return Prefix(layers.view(len(layers), rows, 6, 1, -1), last.view(rows, 2, 1, -1))

    def full_pass(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        """See ``ImageBackbone``. ``steps_left`` tells it nothing, and ``attention_rows`` must be
        None: there is no text to attend to.
        """
        assert attention_rows is None, "a label has no text whose attention could be read"
        prefix, count = narrow(prefix, Prefix), tokens.shape[1]
        x = self._embedded(tokens, self.pos_emb.weight)  #         (rows, sequence, width)
        kept: list[tuple[Tensor, Tensor]] = []
        for block, modulation in zip(self._blocks(), prefix.layers, strict=True):
            shift, scale, gate, *rest = modulation.unbind(1)  #    (rows, 1, width) each
            query, key, value = block.attn.project(_modulated(block.ln1(x), shift, scale))
            if remember:
                kept.append((key[:, :, :count], value[:, :, :count]))
            x = _finished(block, x + gate * block.attn(query, key, value), rest)
        keys, values = zip(*kept, strict=True) if remember else ((), ())
        memory = Memory(torch.stack(keys), torch.stack(values)) if remember else None
        return Pass(self._logits(x[:, :count], prefix), memory)  # (rows, tokens, codebook)

    def local_pass(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """Logits (rows, some, codebook) of the ``tokens`` (rows, some) at ``places``.

        They and the registers see each other afresh, and all other tokens as ``memory`` holds them.
        The registers are not remembered, so that a local pass over all places is a full pass.
        """
        prefix, memory, count = narrow(prefix, Prefix), narrow(memory, Memory), places.shape[1]
        x = self._embedded(tokens, self.pos_emb(places))  #     (rows, some + registers, width)
        for i, (block, modulation) in enumerate(zip(self._blocks(), prefix.layers, strict=True)):
            shift, scale, gate, *rest = modulation.unbind(1)  # (rows, 1, width) each
            query, key, value = block.attn.project(_modulated(block.ln1(x), shift, scale))
            index = places[:, None, :, None].expand_as(key[:, :, :count])
            key, value = (  #                                   (rows, heads, sequence, head)
                torch.cat([old[i].scatter(2, index, new[:, :, :count]), new[:, :, count:]], 2)
                for old, new in ((memory.keys, key), (memory.values, value))
            )
            x = _finished(block, x + gate * block.attn(query, key, value), rest)
        return self._logits(x[:, :count], prefix)

    def _embedded(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens at their places, and the registers after them."""
        registers = self.reg_tokens.weight.expand(len(tokens), -1, -1)
        return torch.cat([self.tok_emb(tokens) + places, registers], 1)

    def _logits(self, x: Tensor, prefix: Prefix) -> Tensor:
        shift, scale = prefix.last.unbind(1)
        x = _modulated(self.last_norm.norm_final(x), shift, scale)  # (rows, tokens, width)
        codes = self.codebook_size  # so the mask id's column is left out
        weight, bias = self.tok_emb.weight[:codes], self.head.bias[:codes]
        if self.rounded_codes is not None:
            return (product(x.flatten(0, 1), self.rounded_codes) + bias).view(*x.shape[:-1], codes)
        return by_rows(lambda row: F.linear(row, weight, bias), x)

    def _blocks(self) -> list[Block]:
        return [block for block in self.transformer.layers if isinstance(block, Block)]


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _finished(block: Block, x: Tensor, modulation: list[Tensor]) -> Tensor:
    """The residual stream behind the attention, with the feed-forward's part added."""
    shift, scale, gate = modulation
    finished: Tensor = x + gate * block.ff(_modulated(block.ln2(x), shift, scale))
    return finished
