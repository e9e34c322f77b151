"""Meissonic and Monetico (arXiv 2410.08261): text and image tokens attend to each other.

First in double-stream blocks, where the two have weights of their own, then in single-stream ones.
Facts: the published network (viiika/Meissonic, Apache-2.0) with the Flux attention of diffusers
0.31, rewritten here for what they have not: rows at different steps in one batch, local passes
(ReCAP), and attention that can be read (UNCAGE).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import attention_backend, attention_weights
from unmask.models.base import Condition, ImageBackbone
from unmask.models.clip import encode_text
from unmask.models.linear import Linear
from unmask.models.uvit import (
    CodeHead,
    ConditionMLP,
    Downsample,
    RMSNorm,
    TokenEmbedding,
    Upsample,
    channels_last,
    sinusoids,
)
from unmask.published import check_sizes
from unmask.sampling.backbone import Pass

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

_CROP_AND_SCORE = (0.0, 0.0, 6.0)  # micro-conditions: no crop, a high aesthetic score
_MICRO_WIDTH = 5 * 256  # of the embedded micro-conditions, with width and height before those
_TIME_WIDTH = 256
_ROPE_BASE = 10000.0
_LARGEST_HALF = 65504.0
# Of a matrix product on a CPU: as ``sampling.step.FEWEST_POSITIONS``, for the same reason.
_FEWEST_ROWS = 16

# What the keys and values (rows, heads, text and image, head width) of a layer are to be, given the
# layer's number, queries, keys and values.
Exchange = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Rotations = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class MeissonicConfig:
    """The fields of ``transformer/config.json`` that matter; a literal is what can be computed.

    ``downsample`` and ``upsample`` (Meissonic): the blocks run on a grid compressed by two.
    ``sample_size`` is the side of the grid in tokens; the published files leave it out.
    """

    num_layers: int
    num_single_layers: int
    attention_head_dim: int
    num_attention_heads: int
    joint_attention_dim: int
    pooled_projection_dim: int
    axes_dims_rope: tuple[int, int, int]
    vocab_size: int
    codebook_size: int
    downsample: bool
    upsample: bool
    sample_size: int | None = None
    guidance_embeds: Literal[False] = False
    patch_size: Literal[1] = 1

    def __post_init__(self) -> None:
        check_sizes(self)
        for layers in ("num_layers", "num_single_layers"):
            if getattr(self, layers) > 1000:
                raise ValueError(f"{layers}: {getattr(self, layers)}; give 1 to 1000")
        if self.pooled_projection_dim != self.width:
            raise ValueError(
                f"pooled_projection_dim: {self.pooled_projection_dim}, expected "
                f"num_attention_heads x attention_head_dim ({self.width})"
            )
        if sum(self.axes_dims_rope) != self.attention_head_dim or any(
            width % 2 for width in self.axes_dims_rope
        ):
            raise ValueError(
                f"axes_dims_rope: {list(self.axes_dims_rope)} must be even and sum to "
                f"attention_head_dim ({self.attention_head_dim})"
            )
        if self.downsample != self.upsample:
            raise ValueError("downsample and upsample: give both or neither")
        if self.side % self.compression:
            raise ValueError(f"sample_size: {self.side} must be even to be compressed")
        if self.vocab_size <= self.codebook_size:
            raise ValueError(
                f"vocab_size: {self.vocab_size} leaves no mask token behind the codebook "
                f"({self.codebook_size})"
            )

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def compression(self) -> int:
        """How many tokens a cell of the blocks' grid has along a side."""
        return 2 if self.downsample else 1

    @property
    def side(self) -> int:
        """The tokens of the grid along a side: Meissonic draws 1024 pixels, Monetico 512."""
        return self.sample_size or (64 if self.downsample else 32)

    @property
    def cells(self) -> int:
        """The cells of the blocks' grid along a side."""
        return self.side // self.compression


class Prefix(NamedTuple):
    """What depends on the condition alone: the embedded ``text`` (rows, length, width), and the
    ``pooled`` text with the micro-conditions (rows, width), which the time of a step is added to.

    Text attends to the image, so its keys and values change from step to step.
    """

    text: Tensor
    pooled: Tensor

    def select(self, rows: Tensor) -> "Prefix":
        """The prefixes of some rows, in their order."""
        return Prefix(self.text[rows], self.pooled[rows])

    @classmethod
    def join(cls, prefixes: Sequence["Prefix"]) -> "Prefix":
        """The rows of all prefixes, one behind the other."""
        return cls(*(torch.cat(tensors) for tensors in zip(*prefixes, strict=True)))


class Cache(NamedTuple):
    """What local passes reuse of a full one (ReCAP, arXiv 2505.19089): its ``tokens`` (rows,
    tokens), and the ``keys`` and ``values`` of its image cells (layers, rows, heads, cells, head
    width), the double-stream blocks' first."""

    tokens: Tensor
    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> "Cache":
        """The caches of some rows, in their order."""
        return Cache(self.tokens[rows], self.keys[:, rows], self.values[:, rows])

    @classmethod
    def join(cls, caches: Sequence["Cache"]) -> "Cache":
        """The rows of all caches, one behind the other."""
        tokens, keys, values = zip(*caches, strict=True)
        return cls(torch.cat(tokens), torch.cat(keys, 1), torch.cat(values, 1))


class Perceptron(nn.Module):
    """Two layers with biases."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(source, width)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return made


class TimeTextEmbedding(nn.Module):
    """What modulates every block: the time of a step and the pooled condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = Perceptron(_TIME_WIDTH, width)
        self.text_embedder = Perceptron(width, width)

    def forward(self, left: Tensor, pooled: Tensor) -> Tensor:
        """The active embedding (rows, width), filled up to the fewest rows.

        The published network reads the number of steps left, a thousandfold, as its time (in
        training it read the share of masked tokens); the product is rounded as it rounds it, but
        never to infinity.
        """
        exact = left.float() * 1000
        rounded = exact.to(pooled.dtype).float()
        numbers = sinusoids(torch.where(rounded.isinf(), exact, rounded), _TIME_WIDTH)
        missing = (0, 0, 0, max(_FEWEST_ROWS - len(left), 0))
        time: Tensor = self.timestep_embedder(F.pad(numbers.to(pooled.dtype), missing))
        return F.silu(time + F.pad(pooled, missing))


class Modulation(nn.Module):
    """Shifts, scales and gates, (rows, 1, width) each, of an active embedding."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.linear = Linear(width, parts * width)
        self.parts = parts

    def forward(self, active: Tensor, rows: int) -> tuple[Tensor, ...]:
        made: Tensor = self.linear(active)
        return made[:rows, None].chunk(self.parts, -1)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(  # in the middle dropout stood
            [_Projection(width, 4 * width), nn.Identity(), Linear(4 * width, width)]
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.net[2](self.net[0](x))
        return made


class _Projection(nn.Module):
    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.proj = Linear(source, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class Attention(nn.Module):
    """Attention among one stream; queries and keys are normed, then rotated."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.to_q, self.to_k, self.to_v = (Linear(config.width, config.width) for _ in range(3))
        self.norm_q = RMSNorm(config.attention_head_dim)
        self.norm_k = RMSNorm(config.attention_head_dim)
        self.backend = attention_backend("sdpa")

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, tokens, head width) of (rows, tokens, width)."""
        query, key = self.norm_q(self._heads(self.to_q(x))), self.norm_k(self._heads(self.to_k(x)))
        return query, key, self._heads(self.to_v(x))

    def attend(
        self,
        projected: tuple[Tensor, Tensor, Tensor],
        rotations: Rotations,
        exchange: Exchange,
        layer: int,
    ) -> Tensor:
        """What each of the tokens sees, (rows, tokens, width)."""
        query, key, value = projected
        query, key = rotate(query, rotations), rotate(key, rotations)
        key, value = exchange(layer, query, key, value)
        return self.backend(query, key, value, None).transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class JointAttention(Attention):
    """Attention among two streams, the text's being the added one."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__(config)
        width = config.width
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (Linear(width, width) for _ in range(3))
        self.norm_added_q = RMSNorm(config.attention_head_dim)
        self.norm_added_k = RMSNorm(config.attention_head_dim)
        self.to_out = nn.ModuleList([Linear(width, width)])
        self.to_add_out = Linear(width, width)

    def project_both(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``project``, the text's first."""
        added = (
            self.norm_added_q(self._heads(self.add_q_proj(text))),
            self.norm_added_k(self._heads(self.add_k_proj(text))),
            self._heads(self.add_v_proj(text)),
        )
        query, key, value = (
            torch.cat(both, 2) for both in zip(added, self.project(image), strict=True)
        )
        return query, key, value


class DoubleBlock(nn.Module):
    """Text and image attend to all, each with weights of its own."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.norm1 = Modulation(config.width, 6)
        self.norm1_context = Modulation(config.width, 6)
        self.attn = JointAttention(config)
        self.ff = FeedForward(config.width)
        self.ff_context = FeedForward(config.width)

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        active: Tensor,
        rotations: Rotations,
        exchange: Exchange,
        layer: int,
    ) -> tuple[Tensor, Tensor]:
        """Text and image behind the block."""
        own = self.norm1(active, len(image))
        texts = self.norm1_context(active, len(text))
        normed = _modulated(text, *texts[:2]), _modulated(image, *own[:2])
        projected = self.attn.project_both(*normed)
        attended = self.attn.attend(projected, rotations, exchange, layer)
        length = text.shape[1]
        image = image + own[2] * _of_part(attended[:, length:], self.attn.to_out[0])
        image = image + own[5] * self.ff(_modulated(image, *own[3:5]))
        text = text + texts[2] * _of_part(attended[:, :length], self.attn.to_add_out)
        text = text + texts[5] * self.ff_context(_modulated(text, *texts[3:5]))
        return _clipped(text), image


class SingleBlock(nn.Module):
    """Text and image as one stream; attention and perceptron side by side."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.norm = Modulation(config.width, 3)
        self.proj_mlp = Linear(config.width, 4 * config.width)
        self.proj_out = Linear(5 * config.width, config.width)
        self.attn = Attention(config)

    def forward(
        self, x: Tensor, active: Tensor, rotations: Rotations, exchange: Exchange, layer: int
    ) -> Tensor:
        shift, scale, gate = self.norm(active, len(x))
        normed = _modulated(x, shift, scale)
        hidden = F.gelu(self.proj_mlp(normed), approximate="tanh")
        attended = self.attn.attend(self.attn.project(normed), rotations, exchange, layer)
        return _clipped(x + gate * self.proj_out(torch.cat([attended, hidden], 2)))


class _Down(nn.Module):
    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.downsample = Downsample(config.width) if config.downsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.downsample(x)
        return made


class _Up(nn.Module):
    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.upsample = Upsample(config.width) if config.upsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.upsample(x)
        return made


class MeissonicTransformer(nn.Module):
    """The network, with the published tensor names."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.time_text_embed = TimeTextEmbedding(width)
        self.context_embedder = Linear(config.joint_attention_dim, width)
        self.encoder_proj_layer_norm = RMSNorm(width)
        self.cond_embed = ConditionMLP(_MICRO_WIDTH + config.pooled_projection_dim, width)
        self.embed = TokenEmbedding(config.vocab_size, width, width)
        self.down_block = _Down(config)
        self.project_to_hidden_norm = RMSNorm(width)
        self.project_to_hidden = Linear(width, width, bias=False)
        self.transformer_blocks = nn.ModuleList(
            DoubleBlock(config) for _ in range(config.num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(config) for _ in range(config.num_single_layers)
        )
        self.project_from_hidden_norm = RMSNorm(width)
        self.project_from_hidden = Linear(width, width, bias=False)
        self.up_block = _Up(config)
        self.mlm_layer = CodeHead(width, width, config.codebook_size)

    def encode(self, text: Tensor, pooled: Tensor, micro: Tensor) -> Prefix:
        """From CLIP's states (rows, length, width), its pooled text (rows, projection) and the
        micro-conditions (rows, 5)."""
        numbers = sinusoids(micro).flatten(1)
        joined = torch.cat([pooled, numbers], 1).to(self.context_embedder.weight.dtype)
        return Prefix(
            self.encoder_proj_layer_norm(self.context_embedder(text)),
            self.time_text_embed.text_embedder(self.cond_embed(joined)),
        )

    def full(
        self,
        tokens: Tensor,
        prefix: Prefix,
        left: Tensor,
        keep: bool = False,
        attend: Tensor | None = None,
    ) -> Pass:
        """A pass over all tokens: see ``sampling.backbone.Backbone``. Attention is that of the
        single-stream blocks; tokens of one cell share it."""
        config, length = self.config, prefix.text.shape[1]
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []

        def exchange(
            layer: int, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor]:
            if keep:
                kept.append((key[:, :, length:], value[:, :, length:]))
            if attend is not None and layer >= config.num_layers:
                weights = attention_weights(query[attend, :, length:], key[attend], None)
                maps.append(weights[..., :length].mean(1))
            return key, value

        states = self._run(
            tokens.view(-1, config.side, config.side),
            prefix,
            left,
            _rotations(length, config.cells, config.axes_dims_rope, tokens.device),
            exchange,
        )
        states = states.transpose(1, 2).reshape(len(tokens), -1, config.cells, config.cells)
        keys, values = zip(*kept, strict=True) if keep else ((), ())
        return Pass(
            logits=self.mlm_layer(channels_last(self.up_block(states)).flatten(1, 2)),
            cache=Cache(tokens, torch.stack(keys), torch.stack(values)) if keep else None,
            attention=None if attend is None else self._to_tokens(torch.stack(maps).mean(0)),
        )

    def local(
        self, tokens: Tensor, positions: Tensor, prefix: Prefix, cache: Cache, left: Tensor
    ) -> Tensor:
        """Logits (rows, some, codebook) of the tokens at ``positions`` (rows, some).

        Their cells and the text run through all blocks, and see the other cells as ``cache`` holds
        them. The text runs too because it is short beside the image, and because what it has seen
        and the time of the step change with every step: all positions at once are a full pass.
        """
        config, length = self.config, prefix.text.shape[1]
        by, side = config.compression, config.side
        cells, places = self._cells(positions, length)

        def exchange(
            layer: int, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor]:
            index = cells[:, None, :, None].expand_as(key[:, :, length:])
            return tuple(  # type: ignore[return-value]
                torch.cat([own[:, :, :length], old.scatter(2, index, own[:, :, length:])], 2)
                for own, old in ((key, cache.keys[layer]), (value, cache.values[layer]))
            )

        # The cells' tokens as a picture that is one cell wide.
        corners = cells // config.cells * by * side + cells % config.cells * by
        within = torch.arange(by, device=cells.device)
        members = corners[..., None, None] + within[:, None] * side + within
        state = cache.tokens.scatter(1, positions, tokens)
        column = state.gather(1, members.flatten(1)).view(len(state), -1, by)

        everywhere = _rotations(length, config.cells, config.axes_dims_rope, cells.device)
        texts = torch.arange(length, device=cells.device).expand(len(cells), -1)
        running = torch.cat([texts, length + cells], 1)
        cosine, sine = (table[running].unsqueeze(1) for table in everywhere)
        states = self._run(column, prefix, left, (cosine, sine), exchange)
        upper = channels_last(self.up_block(states.transpose(1, 2).unsqueeze(-1))).flatten(1, 2)
        here = places * by**2 + positions // side % by * by + positions % side % by
        logits: Tensor = self.mlm_layer(
            upper.gather(1, here[..., None].expand(-1, -1, upper.shape[-1]))
        )
        return logits

    def _run(
        self, ids: Tensor, prefix: Prefix, left: Tensor, rotations: Rotations, exchange: Exchange
    ) -> Tensor:
        """The states (rows, cells, width) behind all blocks of ids (rows, height, width)."""
        text, length = prefix.text, prefix.text.shape[1]
        lower = channels_last(self.down_block(self.embed(ids))).flatten(1, 2)
        image = self.project_to_hidden(self.project_to_hidden_norm(lower))
        active = self.time_text_embed(left, prefix.pooled)
        for i, double in enumerate(self.transformer_blocks):
            text, image = double(text, image, active, rotations, exchange, i)
        x = torch.cat([text, image], 1)
        for i, single in enumerate(self.single_transformer_blocks, self.config.num_layers):
            x = single(x, active, rotations, exchange, i)
        made: Tensor = self.project_from_hidden(self.project_from_hidden_norm(x[:, length:]))
        return made

    def _cells(self, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The cells (rows, few) of the blocks' grid that hold the tokens at ``positions``, each
        once and the first again to fill up; and at which place of them each position's is."""
        side, count, by = self.config.side, self.config.cells, self.config.compression
        if by == 1:
            cells, counts = positions, torch.full_like(positions[:, :1], positions.shape[1])
            places = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
            most = positions.shape[1]
        else:
            own = positions // side // by * count + positions % side // by
            marked = torch.zeros(len(own), count * count, dtype=torch.long, device=own.device)
            marked = marked.scatter(1, own, 1)
            cells = marked.sort(dim=1, descending=True, stable=True).indices
            counts, places = marked.sum(1, keepdim=True), (marked.cumsum(1) - 1).gather(1, own)
            most = int(counts.max())
        # A CPU's fused attention takes queries in blocks of which the last, if short, sums in
        # another order: so whole ones, with the text. Its convolutions ask for twice as many.
        most = max(most, 2 * _FEWEST_ROWS)
        index = torch.arange(most + -(length + most) % _FEWEST_ROWS, device=positions.device)
        return cells.gather(1, torch.where(index < counts, index, 0)), places

    def _to_tokens(self, maps: Tensor) -> Tensor:
        """Maps (rows, tokens, text) of maps (rows, cells, text)."""
        count, by = self.config.cells, self.config.compression
        grid = maps.view(len(maps), count, count, -1)
        return grid.repeat_interleave(by, 1).repeat_interleave(by, 2).flatten(1, 2)


class MeissonicBackbone(ImageBackbone):
    """The network behind CLIP. ``patch`` is that of the tokenizer: the network is told how large
    the picture is."""

    reads = "text"
    attends = True
    reuses = True

    def __init__(
        self,
        transformer: MeissonicTransformer,
        text_encoder: "CLIPTextModelWithProjection",
        mask_id: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self.mask_id, self.codebook_size = mask_id, transformer.config.codebook_size
        self.grid = (transformer.config.side, transformer.config.side)
        self.patch = patch

    def use_attention(self, name: str) -> None:
        """Choose the attention backend of the network by name; CLIP's is its own."""
        backend = attention_backend(name)
        for module in self.transformer.modules():
            if isinstance(module, Attention):
                module.backend = backend

    def encode(self, condition: Condition) -> Prefix:
        """CLIP's text as the network reads it, and its pooled text with the picture's size."""
        text, pooled = encode_text(self.text_encoder, condition.ids)
        height, width = (side * self.patch for side in self.grid)
        micro = text.new_tensor([width, height, *_CROP_AND_SCORE]).expand(len(text), -1)
        return self.transformer.encode(text, pooled, micro)

    def full_pass(
        self, tokens: Tensor, prefix: Prefix, left: Tensor, keep: bool, attend: Tensor | None
    ) -> Pass:
        """See ``ImageBackbone``."""
        return self.transformer.full(tokens, prefix, left, keep, attend)

    def local_pass(
        self, tokens: Tensor, positions: Tensor, prefix: Prefix, cache: Cache, left: Tensor
    ) -> Tensor:
        """See ``ImageBackbone``."""
        return self.transformer.local(tokens, positions, prefix, cache, left)


def rotate(x: Tensor, rotations: Rotations) -> Tensor:
    """Rotate pairs of neighbouring channels of (rows, heads, tokens, width), in fp32."""
    cosine, sine = rotations
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return (x.float() * cosine + turned.float() * sine).to(x.dtype)


@lru_cache(maxsize=16)
def _rotations(
    length: int, side: int, widths: tuple[int, int, int], device: torch.device
) -> Rotations:
    """Cosines and sines (length + side x side, sum of widths), fp32: text is not turned; image
    cells turn one share of the channels by their row and one by their column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    axes = (torch.zeros(side * side), rows.flatten(), columns.flatten())
    angles = [
        F.pad(axis, (length, 0))[:, None]
        * (1 / _ROPE_BASE ** (torch.arange(0, width, 2, dtype=torch.float64) / width))
        for axis, width in zip(axes, widths, strict=True)
    ]
    all_angles = torch.cat(angles, -1).repeat_interleave(2, -1)
    return all_angles.cos().float().to(device), all_angles.sin().float().to(device)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6) * (1 + scale) + shift


def _of_part(part: Tensor, linear: nn.Module) -> Tensor:
    """A linear layer of a part of a tensor. torch itself multiplies what is not contiguous in an
    order that depends on the number of rows; that it adds the bias apart then, which in half
    precision rounds once more, is the published network's way."""
    assert isinstance(linear, Linear)
    return linear.product(part.contiguous()) + linear.bias


def _clipped(x: Tensor) -> Tensor:
    """Sums that overflow half precision stay finite."""
    return x.clip(-_LARGEST_HALF, _LARGEST_HALF) if x.dtype == torch.float16 else x
