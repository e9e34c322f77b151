"""The native masked transformer: one self-attention a block, over [prefix, image tokens].

Text attends to text alone, so the keys and values of the condition (the prefix) are computed once a
request; image queries attend to prefix and image. Both pass through the same blocks. Pre-norm,
RMSNorm, QK-norm, SwiGLU, no biases, axial RoPE on image tokens. Learned row and column embeddings
are added to it: RoPE alone tells a token its distance to others, but captions speak of places ("on
the left").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import attention_backend, attention_weights, axial_angles, rotate
from unmask.models.base import Condition, ImageBackbone
from unmask.sampling.backbone import Pass


@dataclass(frozen=True)
class NativeConfig:
    """Sizes of a native transformer. ``vocabulary`` counts condition ids: text tokens, or labels
    and null.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    grid: tuple[int, ...]
    codebook_size: int
    condition: Literal["text", "label", "none"]
    vocabulary: int
    condition_length: int
    rope_base: float = 100.0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 x heads ({self.heads})")
        if len(self.grid) != 2:
            raise ValueError(f"grid {self.grid}: give rows and columns")

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]


class Prefix(NamedTuple):
    """An encoded condition: ``keys`` and ``values`` (layers, rows, heads, length, head width),
    ``mask``.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor

    def select(self, rows: Tensor) -> "Prefix":
        """The prefixes of some rows, in their order."""
        return Prefix(self.keys[:, rows], self.values[:, rows], self.mask[rows])

    @classmethod
    def join(cls, prefixes: Sequence["Prefix"]) -> "Prefix":
        """The rows of all prefixes, one behind the other."""
        keys, values, masks = zip(*prefixes, strict=True)
        return cls(torch.cat(keys, 1), torch.cat(values, 1), torch.cat(masks))


class Cache(NamedTuple):
    """What a full pass computed of the image tokens: ``keys`` and ``values`` (layers, rows, heads,
    tokens, head width), to be reused by local passes (ReCAP, arXiv 2505.19089).
    """

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> "Cache":
        """The caches of some rows, in their order."""
        return Cache(self.keys[:, rows], self.values[:, rows])

    @classmethod
    def join(cls, caches: Sequence["Cache"]) -> "Cache":
        """The rows of all caches, one behind the other."""
        keys, values = zip(*caches, strict=True)
        return cls(torch.cat(keys, 1), torch.cat(values, 1))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        # The weight is cast, for torch leaves its fused kernel when the two types differ.
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-6)


class Block(nn.Module):
    def __init__(self, config: NativeConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.query_norm = RMSNorm(config.width // config.heads)
        self.key_norm = RMSNorm(config.width // config.heads)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.norm2 = RMSNorm(config.width)
        self.gate_up = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)
        self.attend = attention_backend("sdpa")

    def project(self, x: Tensor, angles: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, tokens, head width) of (rows, tokens, width)."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = qkv.unbind(2)
        query, key = self.query_norm(query), self.key_norm(key)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's and the feed-forward's output to the residual stream."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        fed = F.silu(gate) * up
        if self.training or fed.device.type != "cpu" or fed.dtype == torch.float32:
            x = x + self.down(fed)
        else:
            # In bf16 a CPU sums 704 numbers in another way further down a tall product.
            x = x + torch.cat([self.down(row) for row in fed.split(1)])
        return x


class NativeTransformer(ImageBackbone):
    """A backbone: ``encode`` once a request, then logits for any state of the tokens."""

    angles: Tensor
    attends = True
    reuses = True

    def __init__(self, config: NativeConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.mask_id = self.codebook_size = config.codebook_size
        self.grid = cast(tuple[int, int], config.grid)
        self.reads = config.condition
        self.token_embedding = nn.Embedding(config.codebook_size + 1, config.width)
        self.row_embedding = nn.Embedding(config.grid[0], config.width)
        self.column_embedding = nn.Embedding(config.grid[1], config.width)
        self.condition_embedding = nn.Embedding(config.vocabulary, config.width)
        self.condition_position = nn.Embedding(config.condition_length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)
        angles = axial_angles(config.grid, config.width // config.heads, config.rope_base)
        self.register_buffer("angles", angles, persistent=False)
        self.use_attention(attention)
        self._initialise()

    @property
    def together(self) -> int | None:
        """Narrow models are multiplied alike at any height: tried up to 2,048 rows, one and two
        threads, fp32 and bf16; two threads of MKL begin to part sums of 1,024 numbers."""
        return None if max(self.config.width, self.config.hidden) <= 704 else 1

    def use_attention(self, name: str) -> None:
        """Choose the attention backend by name."""
        for block in self._blocks():
            block.attend = attention_backend(name)

    def encode(self, condition: Condition) -> Prefix:
        """The keys and values that every layer computes from the condition alone."""
        length = condition.ids.shape[1]
        x = self.condition_embedding(condition.ids) + self.condition_position.weight[:length]
        x = x.to(self._compute_dtype(x))
        keys, values = [], []
        for block in self._blocks():
            query, key, value = block.project(x, None)
            x = block.finish(x, block.attend(query, key, value, condition.mask))
            keys.append(key)
            values.append(value)
        return Prefix(torch.stack(keys), torch.stack(values), condition.mask)

    def forward(self, tokens: Tensor, prefix: Prefix) -> Tensor:
        """Logits (rows, tokens, codebook size) for (rows, tokens) ids, ``mask_id`` where masked."""
        return self.full_pass(tokens, prefix, None, False, None).logits

    def full_pass(
        self,
        tokens: Tensor,
        prefix: Prefix,
        left: Tensor | None,
        keep: bool,
        attend: Tensor | None,
    ) -> Pass:
        """See ``ImageBackbone``. ``left`` tells it nothing."""
        x = self.token_embedding(tokens) + self._places()
        x = x.to(self._compute_dtype(x))
        seen = torch.cat([prefix.mask, prefix.mask.new_ones(tokens.shape)], 1)
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []
        for i, block in enumerate(self._blocks()):
            query, key, value = block.project(x, self.angles)
            if keep:
                kept.append((key, value))
            key = torch.cat([prefix.keys[i], key], 2)
            value = torch.cat([prefix.values[i], value], 2)
            if attend is not None:
                weights = attention_weights(query[attend], key[attend], seen[attend])
                maps.append(weights[..., : prefix.mask.shape[1]].mean(1))
            x = block.finish(x, block.attend(query, key, value, seen))
        keys, values = zip(*kept, strict=True) if keep else ((), ())
        return Pass(
            logits=self.head(self.norm(x)),
            cache=Cache(torch.stack(keys), torch.stack(values)) if keep else None,
            attention=None if attend is None else torch.stack(maps).mean(0),
        )

    def local_pass(
        self,
        tokens: Tensor,
        positions: Tensor,
        prefix: Prefix,
        cache: Cache,
        left: Tensor | None,
    ) -> Tensor:
        """Logits (rows, some, codebook size) of the tokens at ``positions`` (rows, some).

        They see the prefix, each other, and all other tokens as ``cache`` holds them.
        """
        x = self.token_embedding(tokens) + self._places()[positions]
        x = x.to(self._compute_dtype(x))
        angles = self.angles[positions].unsqueeze(1)
        seen = torch.cat([prefix.mask, prefix.mask.new_ones(len(tokens), self.config.tokens)], 1)
        for i, block in enumerate(self._blocks()):
            query, own_key, own_value = block.project(x, angles)
            index = positions[:, None, :, None].expand_as(own_key)
            key = torch.cat([prefix.keys[i], cache.keys[i].scatter(2, index, own_key)], 2)
            value = torch.cat([prefix.values[i], cache.values[i].scatter(2, index, own_value)], 2)
            x = block.finish(x, block.attend(query, key, value, seen))
        logits: Tensor = self.head(self.norm(x))
        return logits

    def _places(self) -> Tensor:
        """The learned embedding of each place, (tokens, width)."""
        places = self.row_embedding.weight[:, None] + self.column_embedding.weight[None]
        return places.flatten(0, 1)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _compute_dtype(self, x: Tensor) -> torch.dtype:
        """Under autocast the residual stream is kept in the low type too, or every sum would widen
        it.
        """
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

    def _initialise(self) -> None:
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
        for block in self._blocks():
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=0.02 / (2 * self.config.layers) ** 0.5)
