"""aMUSEd (arXiv 2401.01808): convolutional borders around a transformer that reads CLIP.

No layer knows where a token stands: places come in through the zeros around the depthwise
convolutions of the borders. Facts: diffusers' UVit2DModel (Apache-2.0), rewritten here for what it
has not: all that depends on the text alone is computed once a request, keys and values can be kept
(ReCAP), and attention can be read.

In comments: places and tokens = sample_size x sample_size; cells = those of the layers' grid;
length = of the text; width = heads x head.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unmask.models.amused.blocks import Border, Layer
from unmask.models.amused.config import AmusedConfig
from unmask.models.attention import attention_weights
from unmask.models.base import narrow
from unmask.models.clip_backbone import ClipNetwork
from unmask.models.compressed import CompressedGrid
from unmask.models.linear import Linear, packed_rows_per_pass
from unmask.models.uvit import CodeHead, ConditionMLP, RMSNorm, TokenEmbedding, sinusoids
from unmask.numerics import channels_last
from unmask.sampling.backbone import Pass, RowTensors


@dataclass(frozen=True)
class Prefix(RowTensors):
    """What every layer computes from the condition alone, (layers, rows, ...).

    Keys and values are (.., heads, length, head), one entry a cross-attention; modulations
    (.., 2 x width), the scale and then the shift, one entry a norm or residual block. Those of the
    two borders lie after one another.
    """

    row_axes: ClassVar[tuple[int, ...]] = (1, 1, 1, 1, 1, 1)

    keys: Tensor
    values: Tensor
    modulations: Tensor
    border_keys: Tensor
    border_values: Tensor
    border_modulations: Tensor


@dataclass(frozen=True)
class Memory(RowTensors):
    """What local passes reuse of a full one (ReCAP, arXiv 2505.19089): its ``tokens`` (rows,
    tokens), the ``keys`` and ``values`` of the self-attentions (layers, rows, heads, cells, head),
    and the ``states`` that the upper border read (rows, cells, channels)."""

    row_axes: ClassVar[tuple[int, ...]] = (0, 1, 1, 0)

    tokens: Tensor
    keys: Tensor
    values: Tensor
    states: Tensor


class AmusedTransformer(ClipNetwork):
    """The network, with the published tensor names."""

    def __init__(self, config: AmusedConfig) -> None:
        super().__init__()
        self.config, self.codebook_size = config, config.codebook_size
        self.compressed = CompressedGrid(config.sample_size, config.compression)
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
        """See ``ClipNetwork``."""
        text = self.encoder_proj_layer_norm(self.encoder_proj(text))  # (rows, length, width)
        numbers = sinusoids(micro, self.config.micro_cond_encode_dim).flatten(1)
        joined = torch.cat([pooled, numbers], 1).to(text.dtype)
        pooled = self.cond_embed(joined)  #                             (rows, width)
        pairs = [layer.attn2.keys_values(text) for layer in self._layers()]
        keys, values = zip(*pairs, strict=True)
        modulations = [part for layer in self._layers() for part in layer.modulations(pooled)]
        borders = (self.down_block.encode(text, pooled), self.up_block.encode(text, pooled))
        return Prefix(
            torch.stack(keys),
            torch.stack(values),
            torch.stack(modulations),
            *(torch.cat(pair) for pair in zip(*borders, strict=True)),
        )

    @property
    def rows_per_pass(self) -> int | None:
        """Some if packed: see ``models.rows``."""
        return packed_rows_per_pass(self.project_to_hidden)

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> Pass:
        """See ``ClipNetwork``. ``steps_left`` tells it nothing."""
        prefix = narrow(prefix, Prefix)
        lower = self._lower(tokens, prefix)  #                            (rows, cells, channels)
        x = self.project_to_hidden(self.project_to_hidden_norm(lower))  # (rows, cells, width)
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []
        for i, layer in enumerate(self._layers()):
            modulations = prefix.modulations[3 * i : 3 * i + 3]
            normed = layer.norm1(x, modulations[0])
            key, value = layer.attn1.keys_values(normed)  #               (rows, heads, cells, head)
            if remember:
                kept.append((key, value))
            x = layer.attn1(layer.attn1.query(normed), key, value) + x
            query = layer.attn2.query(layer.norm2(x, modulations[1]))
            if attention_rows is not None:
                chosen = query[attention_rows], prefix.keys[i, attention_rows]
                maps.append(attention_weights(*chosen, None).mean(1))  #  (readers, cells, length)
            x = layer.attn2(query, prefix.keys[i], prefix.values[i]) + x
            x = layer.ff(layer.norm3(x, modulations[2])) + x
        states = self.project_from_hidden(self.project_from_hidden_norm(x))
        logits = self.mlm_layer(self._upper(states, prefix))  #           (rows, tokens, codebook)
        memory, attention = None, None
        if remember:
            keys, values = zip(*kept, strict=True)
            memory = Memory(tokens, torch.stack(keys), torch.stack(values), states)
        if attention_rows is not None:
            attention = self.compressed.to_tokens(torch.stack(maps).mean(0))
        return Pass(logits, memory, attention)

    def local(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """Logits (rows, some, codebook) of the ``tokens`` (rows, some) at ``places``.

        Only the layers are spared: the borders run on the whole grid, as their norms look at all of
        it; they are a ninth of the work. ``steps_left`` tells it nothing.
        """
        prefix, memory = narrow(prefix, Prefix), narrow(memory, Memory)
        cells = self.compressed.cells_of(places).cells  #                 (rows, cells)
        lower = self._lower(memory.tokens.scatter(1, places, tokens), prefix)
        lower = lower.gather(1, cells[..., None].expand(-1, -1, lower.shape[-1]))
        x = self.project_to_hidden(self.project_to_hidden_norm(lower))  # (rows, cells, width)
        for i, layer in enumerate(self._layers()):
            modulations = prefix.modulations[3 * i : 3 * i + 3]
            normed = layer.norm1(x, modulations[0])
            new_key, new_value = layer.attn1.keys_values(normed)  #       (rows, heads, cells, head)
            index = cells[:, None, :, None].expand_as(new_key)
            key = memory.keys[i].scatter(2, index, new_key)
            value = memory.values[i].scatter(2, index, new_value)
            x = layer.attn1(layer.attn1.query(normed), key, value) + x
            query = layer.attn2.query(layer.norm2(x, modulations[1]))
            x = layer.attn2(query, prefix.keys[i], prefix.values[i]) + x
            x = layer.ff(layer.norm3(x, modulations[2])) + x
        new_states = self.project_from_hidden(self.project_from_hidden_norm(x))
        states = memory.states.scatter(1, cells[..., None].expand_as(new_states), new_states)
        upper = self._upper(states, prefix)  #                            (rows, tokens, channels)
        here = upper.gather(1, places[..., None].expand(-1, -1, upper.shape[-1]))
        logits: Tensor = self.mlm_layer(here)  #                          (rows, some, codebook)
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
        side = self.compressed.cell_side
        x: Tensor = self.up_block(
            states.transpose(1, 2).reshape(len(states), -1, side, side),
            prefix.border_keys[2 * blocks :],
            prefix.border_values[2 * blocks :],
            prefix.border_modulations[blocks:],
        )
        return channels_last(x).flatten(1, 2)

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.transformer_layers if isinstance(layer, Layer)]
