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
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import (
    Rotations,
    attention_backend,
    attention_weights,
    axial_angles,
    rotate,
    rotations_of,
)
from unmask.models.base import Condition, ConditionKind, ImageBackbone, narrow
from unmask.models.eight_bits import EightBitLinear
from unmask.models.window_attention import check_window, windowed
from unmask.numerics import WIDEST_ALIKE, by_rows
from unmask.sampling.backbone import Pass, RowTensors


@dataclass(frozen=True)
class NativeConfig:
    """Sizes of a native transformer. ``grid`` is the rows and columns of a picture, with the frames
    of a clip before them; ``vocabulary`` counts condition ids: text tokens, or labels and null.

    ``windows`` are the windows (slots, rows, columns) of a clip that layers in turn see, 0 for the
    whole axis (MaskViT, arXiv 2206.11894); none: all see everything. ``hints`` is how many frames
    before its last one a slot can be hinted at by; 0 takes no hints.
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
    windows: tuple[tuple[int, int, int], ...] = ()
    hints: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "hidden", "codebook_size", "vocabulary"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 x heads ({self.heads})")
        if len(self.grid) not in (2, 3):
            raise ValueError(f"grid {self.grid}: give rows and columns, or frames before them")
        if self.hints < 0:
            raise ValueError(f"hints is {self.hints}; it must be at least 0")
        for name in ("windows", "hints"):
            if getattr(self, name) and len(self.grid) == 2:
                raise ValueError(f"{name}: they are for clips, and grid {self.grid} is a picture's")
        for window in self.windows:
            check_window(window, self.grid)

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
class HintedPrefix(Prefix):
    """What a model that takes hints is told of a row beside its condition: ``hints`` (rows, tokens,
    2) of the whole grid, a code and its offset; none where the offset is 0.
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 1, 0, 0)

    hints: Tensor


@dataclass(frozen=True)
class Memory(RowTensors):
    """What a full pass computed of the image tokens: ``keys`` and ``values`` (layers, rows, heads,
    tokens, head), to be reused by local passes (ReCAP, arXiv 2505.19089).
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 1)

    keys: Tensor
    values: Tensor


class HintEmbedding(nn.Module):
    """What a hint adds to a masked token: of a frame that is given, and how many frames it comes
    before the key frame that is drawn (COMMIT of MAGVIT, arXiv 2212.05199, made small). It starts
    at zero.
    """

    def __init__(self, offsets: int, width: int) -> None:
        super().__init__()
        self.code = nn.Linear(width, width, bias=False)
        self.offset = nn.Embedding(offsets + 1, width)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, codes: Tensor, offsets: Tensor) -> Tensor:
        """(rows, tokens, width) of the embedded codes, and the offsets (rows, tokens)."""
        added: Tensor = self.code(codes) + self.offset(offsets)
        return added


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

    def project(self, x: Tensor, rotations: Rotations | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, tokens, head) of (rows, tokens, width)."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = qkv.unbind(2)  # (rows, heads, tokens, head) each
        query, key = self.query_norm(query), self.key_norm(key)
        if rotations is not None:
            query, key = rotate(query, rotations), rotate(key, rotations)
        return query, key, value

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's and the feed-forward's output to the residual stream."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))  # (rows, tokens, width)
        # Row by row, because in bf16 a CPU sums 704 numbers in another way further down a tall
        # product. Sums of whole numbers are what they are.
        whole = self.training or isinstance(self.down, EightBitLinear)
        return x + (self._feed(x) if whole else by_rows(self._feed, x))

    def _feed(self, x: Tensor) -> Tensor:
        both = self.gate_up(self.norm2(x))  #                   (rows, tokens, 2 x hidden)
        # Row by row, because three threads part SiLU within a row.
        gated = _gated(both) if self.training else by_rows(_gated, both)
        fed: Tensor = self.down(gated)
        return fed


def _gated(both: Tensor) -> Tensor:
    gate, up = both.chunk(2, -1)  # (rows, tokens, hidden) each
    return F.silu(gate) * up


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
        if config.windows:  # a local pass and a map would have to look into windows too
            self.gives_attention = self.has_memory = False
        angles = axial_angles((rows, columns), config.width // config.heads, config.rope_base)
        self.register_buffer("angles", angles.repeat(math.prod(frames), 1), persistent=False)
        self.use_attention(attention)
        self._initialise()
        # Last, so that a seed gives all else the weights that it gives without hints.
        self.hint_offsets = config.hints
        self.hint = HintEmbedding(config.hints, config.width) if config.hints else None

    @property
    def rows_per_pass(self) -> int | None:
        """Any number of a narrow model, whose products are alike at any height, or of eight
        bits."""
        narrow = max(self.config.width, self.config.hidden) <= WIDEST_ALIKE
        return None if narrow or isinstance(self.head, EightBitLinear) else 1

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
        told = torch.stack(keys), torch.stack(values), condition.mask
        if self.hint is None:
            return Prefix(*told)
        none = condition.ids.new_zeros(len(condition.ids), self.config.tokens, 2)
        return HintedPrefix(*told, none)

    def hinted(self, prefix: RowTensors, hints: Tensor) -> RowTensors:
        """See ``ImageBackbone``."""
        prefix = narrow(prefix, HintedPrefix)
        rest = self.config.tokens - hints.shape[1]  # of a clip that is shorter than the grid
        whole = F.pad(hints, (0, 0, 0, rest)).expand_as(prefix.hints)
        return replace(prefix, hints=whole)

    def forward(self, tokens: Tensor, prefix: RowTensors, hints: Tensor | None = None) -> Tensor:
        """Logits (rows, tokens, codebook) for (rows, tokens) ids, ``mask_id`` where masked, of all
        rows at once: what training asks for. ``hints`` are those of ``hinted``."""
        told = prefix if hints is None else self.hinted(prefix, hints)
        return self._full(tokens, narrow(told, Prefix), False, None).logits

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
        count = tokens.shape[1]  # a clip may have fewer frames than the grid
        hints = prefix.hints[:, :count] if isinstance(prefix, HintedPrefix) else None
        embedded = self.embed(tokens, self.places()[:count], hints)
        states, memory, attention = self.states(embedded, prefix, remember, attention_rows)
        return Pass(self.head(states), memory, attention)

    def embed(self, tokens: Tensor, places: Tensor, hints: Tensor | None = None) -> Tensor:
        """Ids (rows, some), the embeddings of their places and their hints (rows, some, 2), as what
        the layers take (rows, some, width)."""
        x: Tensor = self.token_embedding(tokens) + places
        if hints is not None:
            assert self.hint is not None, "only a model that takes hints makes them"
            code, offset = hints.unbind(-1)
            hidden = (tokens == self.mask_id) & (offset > 0)
            added = self.hint(self.token_embedding(code), offset)
            x = torch.where(hidden.unsqueeze(-1), x + added, x)
        return x.to(self._compute_dtype(x))

    def states(
        self,
        x: Tensor,
        prefix: Prefix,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> tuple[Tensor, Memory | None, Tensor | None]:
        """What the layers make of embedded tokens (rows, tokens, width), for a head to read; their
        memory; and their attention, as in a ``Pass``."""
        rotations = rotations_of(self.angles[: x.shape[1]])
        seen = torch.cat([prefix.mask, prefix.mask.new_ones(x.shape[:2])], 1)  # (rows, keys)
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []
        for i, block in enumerate(self._blocks()):
            query, key, value = block.project(x, rotations)  # (rows, heads, tokens, head)
            if remember:
                kept.append((key, value))
            if self.config.windows:
                window = self.config.windows[i % len(self.config.windows)]
                told = (prefix.keys[i], prefix.values[i], prefix.mask)
                attended = windowed(
                    block.attend, window, self.config.grid, (query, key, value), told
                )
                x = block.finish(x, attended)
                continue
            key = torch.cat([prefix.keys[i], key], 2)  #         (rows, heads, keys, head)
            value = torch.cat([prefix.values[i], value], 2)
            if attention_rows is not None:
                chosen = (tensor[attention_rows] for tensor in (query, key, seen))
                weights = attention_weights(*chosen)  #          (readers, heads, tokens, keys)
                maps.append(weights[..., : prefix.mask.shape[1]].mean(1))
            x = block.finish(x, block.attend(query, key, value, seen))
        keys, values = zip(*kept, strict=True) if remember else ((), ())
        return (
            self.norm(x),
            Memory(torch.stack(keys), torch.stack(values)) if remember else None,
            None if attention_rows is None else torch.stack(maps).mean(0),
        )

    def _local(self, tokens: Tensor, places: Tensor, prefix: Prefix, memory: Memory) -> Tensor:
        """Logits (rows, some, codebook) of the ``tokens`` (rows, some) at ``places``.

        They see the prefix, each other, and all other tokens as ``memory`` holds them.
        """
        hints = None
        if isinstance(prefix, HintedPrefix):
            hints = prefix.hints.gather(1, places.unsqueeze(-1).expand(-1, -1, 2))
        x = self.embed(tokens, self.places()[places], hints)  #    (rows, some, width)
        rotations = rotations_of(self.angles[places].unsqueeze(1))  # (rows, 1, some, head / 2)
        image = prefix.mask.new_ones(len(tokens), memory.keys.shape[3])
        seen = torch.cat([prefix.mask, image], 1)  #                (rows, keys)
        for i, block in enumerate(self._blocks()):
            query, new_key, new_value = block.project(x, rotations)  # (rows, heads, some, head)
            index = places[:, None, :, None].expand_as(new_key)
            key = torch.cat([prefix.keys[i], memory.keys[i].scatter(2, index, new_key)], 2)
            value = torch.cat([prefix.values[i], memory.values[i].scatter(2, index, new_value)], 2)
            x = block.finish(x, block.attend(query, key, value, seen))
        logits: Tensor = self.head(self.norm(x))
        return logits

    def places(self) -> Tensor:
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
