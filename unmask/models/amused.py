"""aMUSEd (arXiv 2401.01808): convolutional borders around a transformer that reads CLIP.

No layer knows where a token stands: places come in through the zeros around the depthwise
convolutions of the borders. Facts: diffusers' UVit2DModel (Apache-2.0), rewritten here for what it
has not: all that depends on the text alone is computed once a request, keys and values can be kept
(ReCAP), and attention can be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import attention_backend, attention_weights
from unmask.models.base import Condition, ImageBackbone
from unmask.models.clip import encode_text
from unmask.models.linear import Linear, by_rows, rows_together
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

CROP = (0.0, 0.0)
AESTHETIC_SCORE = 6.0
_MICRO_CONDITIONS = 5  # width, height, crop, aesthetic score
_BLOCK_EPSILON = 1e-6  # of the borders' attention norms, whatever the configuration says


@dataclass(frozen=True)
class AmusedConfig:
    """The fields of ``transformer/config.json`` that matter; a literal is what can be computed.

    ``downsample`` and ``upsample`` (aMUSEd-512): the transformer runs on a grid compressed by two.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    in_channels: int
    block_out_channels: int
    block_num_heads: int
    num_res_blocks: int
    encoder_hidden_size: int
    cond_embed_dim: int
    micro_cond_encode_dim: int
    micro_cond_embed_dim: int
    vocab_size: int
    codebook_size: int
    sample_size: int
    downsample: bool
    upsample: bool
    layer_norm_eps: float = 1e-6
    ln_elementwise_affine: Literal[True] = True
    use_bias: Literal[False] = False

    def __post_init__(self) -> None:
        check_sizes(self)
        for layers in ("num_hidden_layers", "num_res_blocks"):
            if getattr(self, layers) > 1000:
                raise ValueError(f"{layers}: {getattr(self, layers)}; give 1 to 1000")
        for width, heads in (
            ("hidden_size", "num_attention_heads"),
            ("block_out_channels", "block_num_heads"),
        ):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"{width} {getattr(self, width)} must be a multiple of {heads} "
                    f"({getattr(self, heads)})"
                )
        if self.downsample != self.upsample:
            raise ValueError("downsample and upsample: give both or neither")
        if self.downsample and self.sample_size % 2:
            raise ValueError(f"sample_size: {self.sample_size} must be even to be compressed")
        if self.vocab_size <= self.codebook_size:
            raise ValueError(
                f"vocab_size: {self.vocab_size} leaves no mask token behind the codebook "
                f"({self.codebook_size})"
            )
        if self.micro_cond_embed_dim != _MICRO_CONDITIONS * self.micro_cond_encode_dim:
            raise ValueError(
                f"micro_cond_embed_dim: {self.micro_cond_embed_dim}, expected "
                f"{_MICRO_CONDITIONS} x micro_cond_encode_dim ({self.micro_cond_encode_dim})"
            )

    @property
    def compression(self) -> int:
        """How many tokens a cell of the transformer's grid has along a side."""
        return 2 if self.downsample else 1

    @property
    def cells(self) -> int:
        """The cells of the transformer's grid along a side."""
        return self.sample_size // self.compression


class Prefix(NamedTuple):
    """What every layer computes from the condition alone, (layers, rows, ...).

    Keys and values are (.., heads, text, head width), one entry a cross-attention; modulations
    (.., 2 x width), the scale and then the shift, one entry a norm or residual block. Those of the
    two borders lie behind each other.
    """

    keys: Tensor
    values: Tensor
    modulations: Tensor
    border_keys: Tensor
    border_values: Tensor
    border_modulations: Tensor

    def select(self, rows: Tensor) -> "Prefix":
        """The prefixes of some rows, in their order."""
        return Prefix(*(tensor[:, rows] for tensor in self))

    @classmethod
    def join(cls, prefixes: Sequence["Prefix"]) -> "Prefix":
        """The rows of all prefixes, one behind the other."""
        return cls(*(torch.cat(tensors, 1) for tensors in zip(*prefixes, strict=True)))


class Cache(NamedTuple):
    """What local passes reuse of a full one: its ``tokens`` (rows, tokens), the ``keys`` and
    ``values`` of the self-attentions (layers, rows, heads, cells, head width), and the ``states``
    that the upper border read (rows, cells, channels)."""

    tokens: Tensor
    keys: Tensor
    values: Tensor
    states: Tensor

    def select(self, rows: Tensor) -> "Cache":
        """The caches of some rows, in their order."""
        return Cache(self.tokens[rows], self.keys[:, rows], self.values[:, rows], self.states[rows])

    @classmethod
    def join(cls, caches: Sequence["Cache"]) -> "Cache":
        """The rows of all caches, one behind the other."""
        tokens, keys, values, states = zip(*caches, strict=True)
        return cls(torch.cat(tokens), torch.cat(keys, 1), torch.cat(values, 1), torch.cat(states))


class Attention(nn.Module):
    """Multi-head attention without biases; (rows, tokens, width) in and out."""

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(source, width, bias=False)
        self.to_v = Linear(source, width, bias=False)
        self.to_out = nn.ModuleList([Linear(width, width, bias=False)])
        self.backend = attention_backend("sdpa")

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, heads, tokens, head width) each."""
        return self._heads(self.to_k(source)), self._heads(self.to_v(source))

    def query(self, x: Tensor) -> Tensor:
        """(rows, heads, tokens, head width)."""
        return self._heads(self.to_q(x))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = self.backend(query, key, value, None).transpose(1, 2).flatten(2)
        made: Tensor = self.to_out[0](attended)
        return made

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class ResponseNorm(nn.Module):
    """Global response norm over rows and columns of (rows, height, width, channels): channels that
    answer more than others do so still more (ConvNeXt V2, arXiv 2301.00808)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        strength = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        relative = strength / (strength.mean(-1, keepdim=True) + 1e-6)
        made: Tensor = self.gamma * (x * relative) + self.beta + x
        return made


class ResidualBlock(nn.Module):
    """Depthwise convolution, then a perceptron at every place; modulated by the condition."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        channels = config.block_out_channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = RMSNorm(channels, config.layer_norm_eps)
        self.channelwise_linear_1 = Linear(channels, 4 * channels, bias=False)
        self.channelwise_norm = ResponseNorm(4 * channels)
        self.channelwise_linear_2 = Linear(4 * channels, channels, bias=False)
        self.cond_embeds_mapper = Linear(config.hidden_size, 2 * channels, bias=False)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        hidden = by_rows(self._perceptron, self.norm(channels_last(self.depthwise(x))))
        x = hidden.permute(0, 3, 1, 2) + x
        scale, shift = modulation[:, :, None, None].chunk(2, 1)
        return x * (1 + scale) + shift

    def _perceptron(self, x: Tensor) -> Tensor:
        hidden = self.channelwise_norm(F.gelu(self.channelwise_linear_1(x)))
        made: Tensor = self.channelwise_linear_2(hidden)
        return made


class TextBlock(nn.Module):
    """Two cross-attentions to the text, and nothing else."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        channels, heads = config.block_out_channels, config.block_num_heads
        self.kv_mapper = (
            Linear(config.hidden_size, channels, bias=False)
            if config.hidden_size != channels
            else None
        )
        self.norm1 = RMSNorm(channels, _BLOCK_EPSILON)
        self.attn1 = Attention(channels, channels, heads)
        self.norm2 = RMSNorm(channels, _BLOCK_EPSILON)
        self.attn2 = Attention(channels, channels, heads)

    def keys_values(self, text: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of both attentions."""
        source = text if self.kv_mapper is None else self.kv_mapper(F.silu(text))
        return [self.attn1.keys_values(source), self.attn2.keys_values(source)]

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(rows, places, channels); ``keys`` and ``values`` have an entry an attention."""
        x = self.attn1(self.attn1.query(self.norm1(x)), keys[0], values[0]) + x
        made: Tensor = self.attn2(self.attn2.query(self.norm2(x)), keys[1], values[1]) + x
        return made


class Border(nn.Module):
    """Residual and text blocks by turns on (rows, channels, height, width)."""

    def __init__(self, config: AmusedConfig, way: Literal["down", "up"]) -> None:
        super().__init__()
        channels, epsilon = config.block_out_channels, config.layer_norm_eps
        down, up = way == "down" and config.downsample, way == "up" and config.upsample
        self.downsample = Downsample(channels, epsilon) if down else None
        self.res_blocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.num_res_blocks))
        self.attention_blocks = nn.ModuleList(
            TextBlock(config) for _ in range(config.num_res_blocks)
        )
        self.upsample = Upsample(channels, epsilon) if up else None

    def encode(self, text: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and modulations, as a prefix holds them."""
        pairs = [pair for _, block in self._blocks() for pair in block.keys_values(text)]
        keys, values = zip(*pairs, strict=True)
        active = F.silu(pooled)
        modulations = [block.cond_embeds_mapper(active) for block, _ in self._blocks()]
        return torch.stack(keys), torch.stack(values), torch.stack(modulations)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, modulations: Tensor) -> Tensor:
        if self.downsample is not None:
            x = self.downsample(x)
        height, width = x.shape[-2:]
        for i, (residual, text) in enumerate(self._blocks()):
            x = residual(x, modulations[i])
            own = slice(2 * i, 2 * i + 2)
            places = text(channels_last(x).flatten(1, 2), keys[own], values[own])
            x = places.transpose(1, 2).unflatten(2, (height, width))
        return x if self.upsample is None else self.upsample(x)

    def _blocks(self) -> list[tuple[ResidualBlock, TextBlock]]:
        return [
            (residual, text)
            for residual, text in zip(self.res_blocks, self.attention_blocks, strict=True)
            if isinstance(residual, ResidualBlock) and isinstance(text, TextBlock)
        ]


class AdaptiveNorm(nn.Module):
    """A norm of (rows, tokens, width) whose result the condition scales and shifts."""

    def __init__(self, width: int, norm: nn.Module) -> None:
        super().__init__()
        self.linear = Linear(width, 2 * width, bias=False)
        self.norm = norm

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation[:, None].chunk(2, -1)
        made: Tensor = self.norm(x) * (1 + scale) + shift
        return made


class GatedLinear(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = Linear(width, 2 * hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        made: Tensor = value * F.gelu(gate)
        return made


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # In the middle dropout stood.
        self.net = nn.Sequential(
            GatedLinear(width, hidden), nn.Identity(), Linear(hidden, width, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(self.net, x)


class Layer(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        width, heads, epsilon = (
            config.hidden_size,
            config.num_attention_heads,
            config.layer_norm_eps,
        )
        self.norm1 = AdaptiveNorm(width, RMSNorm(width, epsilon))
        self.attn1 = Attention(width, width, heads)
        self.norm2 = AdaptiveNorm(width, RMSNorm(width, epsilon))
        self.attn2 = Attention(width, width, heads)
        self.norm3 = AdaptiveNorm(width, nn.LayerNorm(width, epsilon, bias=False))
        self.ff = FeedForward(width, config.intermediate_size)

    def modulations(self, pooled: Tensor) -> list[Tensor]:
        """Of the three norms, (rows, 2 x width) each."""
        active = F.silu(pooled)
        return [norm.linear(active) for norm in (self.norm1, self.norm2, self.norm3)]


class AmusedTransformer(nn.Module):
    """The network, with the published tensor names."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        self.config = config
        width, channels, epsilon = (
            config.hidden_size,
            config.block_out_channels,
            config.layer_norm_eps,
        )
        self.encoder_proj = Linear(config.encoder_hidden_size, width, bias=False)
        self.encoder_proj_layer_norm = RMSNorm(width, epsilon)
        self.embed = TokenEmbedding(config.vocab_size, config.in_channels, channels, epsilon)
        self.cond_embed = ConditionMLP(config.cond_embed_dim + config.micro_cond_embed_dim, width)
        self.down_block = Border(config, "down")
        self.project_to_hidden_norm = RMSNorm(channels, epsilon)
        self.project_to_hidden = Linear(channels, width, bias=False)
        self.transformer_layers = nn.ModuleList(
            Layer(config) for _ in range(config.num_hidden_layers)
        )
        self.project_from_hidden_norm = RMSNorm(width, epsilon)
        self.project_from_hidden = Linear(width, channels, bias=False)
        self.up_block = Border(config, "up")
        self.mlm_layer = CodeHead(channels, config.in_channels, config.codebook_size, epsilon)

    def encode(self, text: Tensor, pooled: Tensor, micro: Tensor) -> Prefix:
        """From CLIP's states (rows, text, width), its pooled text (rows, projection) and the
        micro-conditions (rows, 5)."""
        text = self.encoder_proj_layer_norm(self.encoder_proj(text))
        numbers = sinusoids(micro, self.config.micro_cond_encode_dim).flatten(1)
        joined = torch.cat([pooled, numbers], 1).to(self.encoder_proj.weight.dtype)
        pooled = self.cond_embed(joined)
        pairs = [layer.attn2.keys_values(text) for layer in self._layers()]
        keys, values = zip(*pairs, strict=True)
        modulations = [each for layer in self._layers() for each in layer.modulations(pooled)]
        borders = (self.down_block.encode(text, pooled), self.up_block.encode(text, pooled))
        return Prefix(
            torch.stack(keys),
            torch.stack(values),
            torch.stack(modulations),
            *(torch.cat(both) for both in zip(*borders, strict=True)),
        )

    def full(
        self, tokens: Tensor, prefix: Prefix, keep: bool = False, attend: Tensor | None = None
    ) -> Pass:
        """A pass over all tokens: see ``sampling.backbone.Backbone``."""
        x = self.project_to_hidden(self.project_to_hidden_norm(self._lower(tokens, prefix)))
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []
        for i, layer in enumerate(self._layers()):
            own = prefix.modulations[3 * i : 3 * i + 3]
            normed = layer.norm1(x, own[0])
            key, value = layer.attn1.keys_values(normed)
            if keep:
                kept.append((key, value))
            x = layer.attn1(layer.attn1.query(normed), key, value) + x
            query = layer.attn2.query(layer.norm2(x, own[1]))
            if attend is not None:
                maps.append(attention_weights(query[attend], prefix.keys[i, attend], None).mean(1))
            x = layer.attn2(query, prefix.keys[i], prefix.values[i]) + x
            x = layer.ff(layer.norm3(x, own[2])) + x
        states = self.project_from_hidden(self.project_from_hidden_norm(x))
        logits = self.mlm_layer(self._upper(states, prefix))
        keys, values = zip(*kept, strict=True) if keep else ((), ())
        return Pass(
            logits=logits,
            cache=Cache(tokens, torch.stack(keys), torch.stack(values), states) if keep else None,
            attention=None if attend is None else self._to_tokens(torch.stack(maps).mean(0)),
        )

    def local(self, tokens: Tensor, positions: Tensor, prefix: Prefix, cache: Cache) -> Tensor:
        """Logits (rows, some, codebook) of the tokens at ``positions`` (rows, some).

        Only the layers are spared: the borders run on the whole grid, as their norms look at all of
        it; they are a ninth of the work.
        """
        cells = self.cells_of(positions)
        lower = self._lower(cache.tokens.scatter(1, positions, tokens), prefix)
        lower = lower.gather(1, cells[..., None].expand(-1, -1, lower.shape[-1]))
        x = self.project_to_hidden(self.project_to_hidden_norm(lower))
        for i, layer in enumerate(self._layers()):
            own = prefix.modulations[3 * i : 3 * i + 3]
            normed = layer.norm1(x, own[0])
            own_key, own_value = layer.attn1.keys_values(normed)
            index = cells[:, None, :, None].expand_as(own_key)
            key = cache.keys[i].scatter(2, index, own_key)
            value = cache.values[i].scatter(2, index, own_value)
            x = layer.attn1(layer.attn1.query(normed), key, value) + x
            query = layer.attn2.query(layer.norm2(x, own[1]))
            x = layer.attn2(query, prefix.keys[i], prefix.values[i]) + x
            x = layer.ff(layer.norm3(x, own[2])) + x
        own_states = self.project_from_hidden(self.project_from_hidden_norm(x))
        states = cache.states.scatter(1, cells[..., None].expand_as(own_states), own_states)
        upper = self._upper(states, prefix)
        here = upper.gather(1, positions[..., None].expand(-1, -1, upper.shape[-1]))
        logits: Tensor = self.mlm_layer(here)
        return logits

    def _lower(self, tokens: Tensor, prefix: Prefix) -> Tensor:
        """The states (rows, cells, channels) below the layers."""
        size, blocks = self.config.sample_size, self.config.num_res_blocks
        x: Tensor = self.down_block(
            self.embed(tokens.view(-1, size, size)),
            prefix.border_keys[: 2 * blocks],
            prefix.border_values[: 2 * blocks],
            prefix.border_modulations[:blocks],
        )
        return channels_last(x).flatten(1, 2)

    def _upper(self, states: Tensor, prefix: Prefix) -> Tensor:
        """What the head reads, (rows, places, channels), of the states above the layers."""
        blocks = self.config.num_res_blocks
        x: Tensor = self.up_block(
            states.transpose(1, 2).reshape(len(states), -1, self.config.cells, self.config.cells),
            prefix.border_keys[2 * blocks :],
            prefix.border_values[2 * blocks :],
            prefix.border_modulations[blocks:],
        )
        return channels_last(x).flatten(1, 2)

    def cells_of(self, positions: Tensor) -> Tensor:
        """The cells (rows, few) of the layers' grid that hold the tokens at ``positions``: each
        once, and the first again to fill up."""
        size, side, by = self.config.sample_size, self.config.cells, self.config.compression
        if by == 1:
            return positions
        cells = positions // size // by * side + positions % size // by
        marked = torch.zeros(len(cells), side * side, dtype=torch.bool, device=cells.device)
        marked = marked.scatter(1, cells, True)
        counts = marked.sum(1, keepdim=True)
        order = marked.byte().sort(dim=1, descending=True, stable=True).indices
        order = order[:, : int(counts.max())]
        place = torch.arange(order.shape[1], device=cells.device)
        return torch.where(place < counts, order, order[:, :1])

    def _to_tokens(self, maps: Tensor) -> Tensor:
        """Maps (rows, tokens, text) of maps (rows, cells, text)."""
        side, by = self.config.cells, self.config.compression
        grid = maps.view(len(maps), side, side, -1)
        return grid.repeat_interleave(by, 1).repeat_interleave(by, 2).flatten(1, 2)

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.transformer_layers if isinstance(layer, Layer)]


class AmusedBackbone(ImageBackbone):
    """The network behind CLIP. ``patch`` is that of the tokenizer: the network is told how large
    the picture is."""

    reads = "text"
    attends = True
    reuses = True

    def __init__(
        self,
        transformer: AmusedTransformer,
        text_encoder: "CLIPTextModelWithProjection",
        mask_id: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self.mask_id, self.codebook_size = mask_id, transformer.config.codebook_size
        self.grid = (transformer.config.sample_size, transformer.config.sample_size)
        self.patch = patch

    @property
    def together(self) -> int | None:
        """Packed, a few: see ``models.rows``."""
        return rows_together(self.transformer.project_to_hidden)

    def layer_count(self, positions: Tensor) -> int:
        """The cells of the compressed grid that hold them."""
        return self.transformer.cells_of(positions[None]).shape[1]

    def use_attention(self, name: str) -> None:
        """Choose the attention backend of the network by name; CLIP's is its own."""
        backend = attention_backend(name)
        for module in self.transformer.modules():
            if isinstance(module, Attention):
                module.backend = backend

    def encode(self, condition: Condition) -> Prefix:
        """What the network computes from CLIP's text and the micro-conditions: the picture's size,
        no crop, and a high aesthetic score."""
        text, pooled = encode_text(self.text_encoder, condition.ids)
        height, width = (side * self.patch for side in self.grid)
        micro = text.new_tensor([width, height, *CROP, AESTHETIC_SCORE]).expand(len(text), -1)
        return self.transformer.encode(text, pooled, micro)

    def full_pass(
        self, tokens: Tensor, prefix: Prefix, left: Tensor, keep: bool, attend: Tensor | None
    ) -> Pass:
        """See ``ImageBackbone``. ``left`` tells it nothing."""
        return self.transformer.full(tokens, prefix, keep, attend)

    def local_pass(
        self, tokens: Tensor, positions: Tensor, prefix: Prefix, cache: Cache, left: Tensor
    ) -> Tensor:
        """See ``ImageBackbone``. ``left`` tells it nothing."""
        return self.transformer.local(tokens, positions, prefix, cache)
