"""Meissonic and Monetico (arXiv 2410.08261): text and image tokens attend to each other.

First in double-stream blocks, where the two have weights of their own, then in single-stream ones.
Facts: the published network (viiika/Meissonic, Apache-2.0) with the Flux attention of diffusers
0.31, rewritten here for what they have not: rows at different steps in one batch, local passes
(ReCAP), and attention that can be read (UNCAGE).

In comments: tokens = side x side; cells = those of the blocks' grid; length = of the text;
running = length + cells.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from unmask.models.attention import attention_weights
from unmask.models.base import narrow
from unmask.models.clip_backbone import ClipNetwork
from unmask.models.compressed import CompressedGrid
from unmask.models.linear import Linear
from unmask.models.meissonic.blocks import DoubleBlock, Exchange, SingleBlock, TimeTextEmbedding
from unmask.models.meissonic.config import MeissonicConfig
from unmask.models.meissonic.rotary import Rotations, rotations_of
from unmask.models.uvit import (
    MICRO_CONDITIONS,
    CodeHead,
    ConditionMLP,
    Downsample,
    RMSNorm,
    TokenEmbedding,
    Upsample,
    sinusoids,
)
from unmask.numerics import channels_last, repeat_first, whole_blocks
from unmask.sampling.backbone import Pass, RowTensors

_MICRO_WIDTH = MICRO_CONDITIONS * 256  # of the embedded micro-conditions


@dataclass(frozen=True)
class Prefix(RowTensors):
    """What depends on the condition alone: the embedded ``text`` (rows, length, width), and the
    ``pooled`` text with the micro-conditions (rows, width), which the time of a step is added to.

    Text attends to the image, so its keys and values change from step to step.
    """

    row_axes: ClassVar[tuple[int, ...]] = (0, 0)

    text: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Memory(RowTensors):
    """What local passes reuse of a full one (ReCAP, arXiv 2505.19089): its ``tokens`` (rows,
    tokens), and the ``keys`` and ``values`` of its image cells (layers, rows, heads, cells, head),
    the double-stream blocks' first."""

    row_axes: ClassVar[tuple[int, ...]] = (0, 1, 1)

    tokens: Tensor
    keys: Tensor
    values: Tensor


class _Down(nn.Module):
    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.downsample = Downsample(config.width) if config.downsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        cells: Tensor = self.downsample(x)  # (rows, width, height, ..)
        return cells


class _Up(nn.Module):
    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.upsample = Upsample(config.width) if config.upsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        places: Tensor = self.upsample(x)  # (rows, width, height, ..)
        return places


class MeissonicTransformer(ClipNetwork):
    """The network, with the published tensor names."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.config, self.codebook_size = config, config.codebook_size
        self.compressed = CompressedGrid(config.side, config.compression)
        width = config.width
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
        """See ``ClipNetwork``."""
        numbers = sinusoids(micro).flatten(1)
        joined = torch.cat([pooled, numbers], 1).to(text.dtype)
        return Prefix(
            self.encoder_proj_layer_norm(self.context_embedder(text)),
            self.time_text_embed.text_embedder(self.cond_embed(joined)),
        )

    def full(
        self,
        tokens: Tensor,
        prefix: RowTensors,
        steps_left: Tensor,
        remember: bool = False,
        attention_rows: Tensor | None = None,
    ) -> Pass:
        """See ``ClipNetwork``. Attention is that of the single-stream blocks."""
        prefix, config = narrow(prefix, Prefix), self.config
        length, cell_side = prefix.text.shape[1], self.compressed.cell_side
        kept: list[tuple[Tensor, Tensor]] = []
        maps: list[Tensor] = []

        def exchange(
            layer: int, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor]:
            if remember:
                kept.append((key[:, :, length:], value[:, :, length:]))
            if attention_rows is not None and layer >= config.num_layers:
                chosen = query[attention_rows, :, length:], key[attention_rows]
                maps.append(attention_weights(*chosen, None)[..., :length].mean(1))
            return key, value

        states = self._run(
            tokens.view(-1, config.side, config.side),
            prefix,
            steps_left,
            rotations_of(length, cell_side, config.axes_dims_rope, tokens.device),
            exchange,
        )  #                                                          (rows, cells, width)
        states = states.transpose(1, 2).reshape(len(tokens), -1, cell_side, cell_side)
        upper = channels_last(self.up_block(states)).flatten(1, 2)  # (rows, tokens, width)
        memory, attention = None, None
        if remember:
            keys, values = zip(*kept, strict=True)
            memory = Memory(tokens, torch.stack(keys), torch.stack(values))
        if attention_rows is not None:
            attention = self.compressed.to_tokens(torch.stack(maps).mean(0))
        return Pass(self.mlm_layer(upper), memory, attention)

    def local(
        self,
        tokens: Tensor,
        places: Tensor,
        prefix: RowTensors,
        memory: RowTensors,
        steps_left: Tensor,
    ) -> Tensor:
        """Logits (rows, some, codebook) of the ``tokens`` (rows, some) at ``places``.

        Their cells and the text run through all blocks, and see the other cells as ``memory`` holds
        them. The text runs too because it is short beside the image, and because what it has seen
        and the time of the step change with every step: all places at once are a full pass.
        """
        prefix, remembered = narrow(prefix, Prefix), narrow(memory, Memory)
        config, compressed, length = self.config, self.compressed, prefix.text.shape[1]
        cells, slots = compressed.cells_of(places)
        cells = repeat_first(cells, whole_blocks(cells.shape[1], beside=length))  # (rows, cells)

        def exchange(
            layer: int, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor]:
            index = cells[:, None, :, None].expand_as(key[:, :, length:])
            all_keys, all_values = (
                torch.cat([new[:, :, :length], old.scatter(2, index, new[:, :, length:])], 2)
                for new, old in ((key, remembered.keys[layer]), (value, remembered.values[layer]))
            )
            return all_keys, all_values

        # The cells' tokens as a picture that is one cell wide.
        state = remembered.tokens.scatter(1, places, tokens)  #              (rows, tokens)
        members = compressed.tokens_of(cells).flatten(1)  #                  (rows, cells x by x by)
        column = state.gather(1, members).view(len(state), -1, compressed.by)

        everywhere = rotations_of(length, compressed.cell_side, config.axes_dims_rope, cells.device)
        texts = torch.arange(length, device=cells.device).expand(len(cells), -1)
        running = torch.cat([texts, length + cells], 1)  #                   (rows, length + cells)
        cosine, sine = (table[running].unsqueeze(1) for table in everywhere)
        states = self._run(column, prefix, steps_left, (cosine, sine), exchange)
        upper = channels_last(self.up_block(states.transpose(1, 2).unsqueeze(-1))).flatten(1, 2)
        here = slots * compressed.by**2 + compressed.place_within(places)  # (rows, some)
        logits: Tensor = self.mlm_layer(
            upper.gather(1, here[..., None].expand(-1, -1, upper.shape[-1]))
        )
        return logits

    def _run(
        self,
        ids: Tensor,
        prefix: Prefix,
        steps_left: Tensor,
        rotations: Rotations,
        exchange: Exchange,
    ) -> Tensor:
        """The states (rows, cells, width) behind all blocks of ids (rows, height, width)."""
        text, length = prefix.text, prefix.text.shape[1]  #                   (rows, length, width)
        lower = channels_last(self.down_block(self.embed(ids))).flatten(1, 2)
        image = self.project_to_hidden(self.project_to_hidden_norm(lower))  # (rows, cells, width)
        active = self.time_text_embed(steps_left, prefix.pooled)  #           (16 or more, width)
        for i, double in enumerate(self.transformer_blocks):
            text, image = double(text, image, active, rotations, exchange, i)
        x = torch.cat([text, image], 1)  #                                    (rows, running, width)
        for i, single in enumerate(self.single_transformer_blocks, self.config.num_layers):
            x = single(x, active, rotations, exchange, i)
        # The text has done its work: only the image's states go on.
        states: Tensor = self.project_from_hidden(self.project_from_hidden_norm(x[:, length:]))
        return states
