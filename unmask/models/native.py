"""The native masked transformer: one self-attention a block, over [prefix, image tokens].

Text attends to text alone, so the keys and values of the condition (the prefix) are computed once a
request; image queries attend to prefix and image. Both pass through the same blocks. Pre-norm,
RMSNorm, QK-norm, SwiGLU, no biases, axial RoPE on image tokens. A learned embedding an axis of the
grid is added to it: RoPE alone tells a token its distance to others, but captions speak of places
("on the left"). Frames have their embedding only, and rows and columns all of RoPE's channels: so a
clip of one frame is, to the bit, a picture.

In comments: width = heads x head; length = of the condition; keys = length + tokens.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import attention_backend, attention_weights, axial_angles, rotate
from unmask.models.base import Condition, ConditionKind, ImageBackbone, narrow
from unmask.numerics import WIDEST_ALIKE, by_rows
from unmask.sampling.backbone import Pass, RowTensors


@dataclass(frozen=True)
class NativeConfig:
    """Sizes of a native transformer. ``grid`` is the rows and columns of a picture, with the frames
    of a clip before them; ``vocabulary`` counts condition ids: text tokens, or labels and null.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    grid: tuple[int, ...]
    codebook_size: int
    condition: ConditionKind
    vocabulary: int
    condition_length: int
    rope_base: float = 100.0

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "hidden", "codebook_size", "vocabulary"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 x heads ({self.heads})")
        if len(self.grid) not in (2, 3):
            raise ValueError(f"grid {self.grid}: give rows and columns, or frames before them")

    @property
    def tokens(self) -> int:
        """How many tokens the grid has."""
        return math.prod(self.grid)


@dataclass(frozen=True)
class Prefix(RowTensors):
    """An encoded condition: ``keys`` and ``values`` (layers, rows, heads, length, head), ``mask``
    (rows, length).
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 1, 0)

    keys: Tensor
    values: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Memory(RowTensors):
    """What a full pass computed of the image tokens: ``keys`` and ``values`` (layers, rows, heads,
    tokens, head), to be reused by local passes (ReCAP, arXiv 2505.19089).
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 1)

    keys: Tensor
    values: Tensor


class RMSNorm(nn.Module):
    """Divides by the root of the mean square, then scales."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        # The weight is cast, for torch leaves its fused kernel when the two types differ.
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-6)


class Block(nn.Module):
    """Attention with normed queries and keys, and SwiGLU, each after a norm."""

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
        """Queries, keys and values (rows, heads, tokens, head) of (rows, tokens, width)."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = qkv.unbind(2)  # (rows, heads, tokens, head) each
        query, key = self.query_norm(query), self.key_norm(key)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's and the feed-forward's output to the residual stream."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))  # (rows, tokens, width)
        # Row by row, because three threads part SiLU within a row, and because in bf16 a CPU sums
        # 704 numbers in another way further down a tall product.
        return x + (self._feed(x) if self.training else by_rows(self._feed, x))

    def _feed(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)  #   (rows, tokens, hidden) each
        fed: Tensor = self.down(F.silu(gate) * up)
        return fed


class NativeTransformer(ImageBackbone):
    """A backbone: ``encode`` once a request, then logits for any state of the tokens."""

    angles: Tensor
    gives_attention = True
    has_memory = True

    def __init__(self, config: NativeConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.mask_id = self.codebook_size = config.codebook_size
        self.grid, self.condition_kind = config.grid, config.condition
        *frames, rows, columns = config.grid
        self.token_embedding = nn.Embedding(config.codebook_size + 1, config.width)
        self.row_embedding = nn.Embedding(rows, config.width)
        self.column_embedding = nn.Embedding(columns, config.width)
        self.frame_embedding = nn.Embedding(frames[0], config.width) if frames else None
        self.condition_embedding = nn.Embedding(config.vocabulary, config.width)
        self.condition_position = nn.Embedding(config.condition_length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, config.codebook_size, bias=False)
        angles = axial_angles((rows, columns), config.width // config.heads, config.rope_base)
        self.register_buffer("angles", angles.repeat(math.prod(frames), 1), persistent=False)
        self.use_attention(attention)
        self._initialise()

    @property
    def rows_per_pass(self) -> int | None:
        """Any number of a narrow model, whose products are alike at any height."""
        return None if max(self.config.width, self.config.hidden) <= WIDEST_ALIKE else 1

    def use_attention(self, name: str) -> None:
        """Choose the attention backend by name."""
        for block in self._blocks():
            block.attend = attention_backend(name)

    def encode(self, condition: Condition) -> Prefix:
        """The keys and values that every layer computes from the condition alone."""
        length = condition.ids.shape[1]
        x = self.condition_embedding(condition.ids) + self.condition_position.weight[:length]
        x = x.to(self._compute_dtype(x))  #               (rows, length, width)
        keys, values = [], []
        for block in self._blocks():
            query, key, value = block.project(x, None)  # (rows, heads, length, head)
            x = block.finish(x, block.attend(query, key, value, condition.mask))
            keys.append(key)
            values.append(value)
        return Prefix(torch.stack(keys), torch.stack(values), condition.mask)

    def forward(self, tokens: Tensor, prefix: RowTensors) -> Tensor:
        """Logits (rows, tokens, codebook) for (rows, tokens) ids, ``mask_id`` where masked, of all
        rows at once: what training asks for."""
        return self._full(tokens, narrow(prefix, Prefix), False, None).logits

    def full_pass(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        """See ``ImageBackbone``. ``steps_left`` tells it nothing."""
        return self._full(tokens, narrow(prefix, Prefix), remember, attention_rows)

    def local_pass(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """See ``ImageBackbone``. ``steps_left`` tells it nothing."""
        return self._local(tokens, places, narrow(prefix, Prefix), narrow(memory, Memory))

    def _full(
        self, tokens: Tensor, prefix: Prefix, remember: bool, attention_rows: Tensor | None
    ) -> Pass:
        # A clip may have fewer frames than the grid.
        places, angles = self._places()[: tokens.shape[1]], self.angles[: tokens.shape[1]]
        x = self.token_embedding(tokens) + places
        x = x.to(self._compute_dtype(x))  #                      (rows, tokens, width)
        seen = torch.cat([prefix.mask, prefix.mask.new_ones(tokens.shape)], 1)  # (rows, keys)
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []
        for i, block in enumerate(self._blocks()):
            query, key, value = block.project(x, angles)  # (rows, heads, tokens, head)
            if remember:
                kept.append((key, value))
            key = torch.cat([prefix.keys[i], key], 2)  #         (rows, heads, keys, head)
            value = torch.cat([prefix.values[i], value], 2)
            if attention_rows is not None:
                chosen = (tensor[attention_rows] for tensor in (query, key, seen))
                weights = attention_weights(*chosen)  #          (readers, heads, tokens, keys)
                maps.append(weights[..., : prefix.mask.shape[1]].mean(1))
            x = block.finish(x, block.attend(query, key, value, seen))
        keys, values = zip(*kept, strict=True) if remember else ((), ())
        return Pass(
            logits=self.head(self.norm(x)),  #                   (rows, tokens, codebook)
            memory=Memory(torch.stack(keys), torch.stack(values)) if remember else None,
            attention=None if attention_rows is None else torch.stack(maps).mean(0),
        )

    def _local(self, tokens: Tensor, places: Tensor, prefix: Prefix, memory: Memory) -> Tensor:
        """Logits (rows, some, codebook) of the ``tokens`` (rows, some) at ``places``.

        They see the prefix, each other, and all other tokens as ``memory`` holds them.
        """
        x = self.token_embedding(tokens) + self._places()[places]
        x = x.to(self._compute_dtype(x))  #                         (rows, some, width)
        angles = self.angles[places].unsqueeze(1)  #                (rows, 1, some, head / 2)
        image = prefix.mask.new_ones(len(tokens), memory.keys.shape[3])
        seen = torch.cat([prefix.mask, image], 1)  #                (rows, keys)
        for i, block in enumerate(self._blocks()):
            query, new_key, new_value = block.project(x, angles)  # (rows, heads, some, head)
            index = places[:, None, :, None].expand_as(new_key)
            key = torch.cat([prefix.keys[i], memory.keys[i].scatter(2, index, new_key)], 2)
            value = torch.cat([prefix.values[i], memory.values[i].scatter(2, index, new_value)], 2)
            x = block.finish(x, block.attend(query, key, value, seen))
        logits: Tensor = self.head(self.norm(x))
        return logits

    def _places(self) -> Tensor:
        """The learned embedding of each place, (tokens, width)."""
        places = self.row_embedding.weight[:, None] + self.column_embedding.weight[None]
        if self.frame_embedding is not None:
            places = self.frame_embedding.weight[:, None, None] + places
        return places.flatten(0, -2)

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
        if self.frame_embedding is not None:
            nn.init.zeros_(self.frame_embedding.weight)  # so that a frame begins as a picture
