"""The blocks of Meissonic's network, in double streams (text and image apart) and in single ones.

In comments: length = of the text; running = length + image cells of a pass; width = heads x head.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.linear import Linear
from unmask.models.meissonic.config import MeissonicConfig
from unmask.models.meissonic.rotary import Rotations, rotate
from unmask.models.uvit import HeadedAttention, RMSNorm, sinusoids
from unmask.numerics import pad_rows

_TIME_WIDTH = 256
_LARGEST_HALF = 65504.0

# What the keys and values (rows, heads, text and image, head) of a layer are to be, given the
# layer's number, queries, keys and values.
Exchange = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Perceptron(nn.Module):
    """Two layers with biases."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Linear(source, width)
        self.linear_2 = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        vector: Tensor = self.linear_2(F.silu(self.linear_1(x)))  # (rows, width)
        return vector


class TimeTextEmbedding(nn.Module):
    """What modulates every block: the time of a step and the pooled condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = Perceptron(_TIME_WIDTH, width)
        self.text_embedder = Perceptron(width, width)

    def forward(self, steps_left: Tensor, pooled: Tensor) -> Tensor:
        """The active embedding (rows, width), filled up to the fewest rows that are multiplied
        alike.

        The published network reads the number of steps left, a thousandfold, as its time (in
        training it read the share of masked tokens); the product is rounded as it rounds it, but
        never to infinity.
        """
        exact = steps_left.float() * 1000
        rounded = exact.to(pooled.dtype).float()
        numbers = sinusoids(torch.where(rounded.isinf(), exact, rounded), _TIME_WIDTH)
        time: Tensor = self.timestep_embedder(pad_rows(numbers.to(pooled.dtype)))
        return F.silu(time + pad_rows(pooled))


class Modulation(nn.Module):
    """Shifts, scales and gates, (rows, 1, width) each, of an active embedding."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.linear = Linear(width, parts * width)
        self.parts = parts

    def forward(self, active: Tensor, rows: int) -> tuple[Tensor, ...]:
        parts: Tensor = self.linear(active)  # of padded rows too
        return parts[:rows, None].chunk(self.parts, -1)


class FeedForward(nn.Module):
    """Four times as wide within."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(  # in the middle dropout stood: its place keeps published names
            [_Projection(width, 4 * width), nn.Identity(), Linear(4 * width, width)]
        )

    def forward(self, x: Tensor) -> Tensor:
        fed: Tensor = self.net[2](self.net[0](x))  # (rows, tokens, width)
        return fed


class _Projection(nn.Module):
    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.proj = Linear(source, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")  # (rows, tokens, 4 x source)


class Attention(HeadedAttention):
    """Attention among one stream; queries and keys are normed, then rotated."""

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__(config.num_attention_heads)
        self.to_q, self.to_k, self.to_v = (Linear(config.width, config.width) for _ in range(3))
        self.norm_q = RMSNorm(config.attention_head_dim)
        self.norm_k = RMSNorm(config.attention_head_dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, tokens, head) of (rows, tokens, width)."""
        query, key = self.norm_q(self.split(self.to_q(x))), self.norm_k(self.split(self.to_k(x)))
        return query, key, self.split(self.to_v(x))

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
        return self.merged(query, key, value)


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

    def project_streams(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``project``, the text's first."""
        added = (
            self.norm_added_q(self.split(self.add_q_proj(text))),
            self.norm_added_k(self.split(self.add_k_proj(text))),
            self.split(self.add_v_proj(text)),
        )
        query, key, value = (
            torch.cat(pair, 2) for pair in zip(added, self.project(image), strict=True)
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
        of_image = self.norm1(active, len(image))  #        6 x (rows, 1, width)
        of_text = self.norm1_context(active, len(text))
        normed = _modulated(text, *of_text[:2]), _modulated(image, *of_image[:2])
        projected = self.attn.project_streams(*normed)  #   3 x (rows, heads, running, head)
        attended = self.attn.attend(projected, rotations, exchange, layer)
        length = text.shape[1]
        image = image + of_image[2] * _of_part(attended[:, length:], self.attn.to_out[0])
        image = image + of_image[5] * self.ff(_modulated(image, *of_image[3:5]))
        text = text + of_text[2] * _of_part(attended[:, :length], self.attn.to_add_out)
        text = text + of_text[5] * self.ff_context(_modulated(text, *of_text[3:5]))
        return _clipped(text), image  # (rows, length, width), (rows, cells, ..)


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
        shift, scale, gate = self.norm(active, len(x))  #             (rows, 1, width) each
        normed = _modulated(x, shift, scale)  #                       (rows, running, width)
        hidden = F.gelu(self.proj_mlp(normed), approximate="tanh")  # (rows, running, 4 x width)
        attended = self.attn.attend(self.attn.project(normed), rotations, exchange, layer)
        return _clipped(x + gate * self.proj_out(torch.cat([attended, hidden], 2)))


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
