"""Attention backends: the same sum, computed in different ways."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.errors import ConfigError, choices

# Queries, keys and values are (rows, heads, tokens, head width); the mask is (rows, keys), True
# where a key may be seen, or None.
AttentionBackend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
# Cosines and sines of angles: all layers of a pass share them.
Rotations = tuple[Tensor, Tensor]


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention (rows, heads, queries, keys) in fp32: what each query looks at."""
    scores = (query.float() @ key.float().transpose(-1, -2)) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
    weights: Tensor = scores.softmax(-1)
    return weights


def plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The textbook sum: the reference of the other backends."""
    return attention_weights(query, key, mask).to(value.dtype) @ value


def sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """torch's fused attention."""
    seen = None if mask is None else mask[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)


def xformers(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """xformers' memory-efficient attention; wants a GPU."""
    from xformers.ops import memory_efficient_attention

    bias = None
    if mask is not None:
        # Its kernels read biases in blocks of 8 keys: allocate rounded up, then cut.
        rows, heads, queries, keys = *query.shape[:3], key.shape[2]
        padded = query.new_zeros(rows, heads, queries, -(-keys // 8) * 8)
        bias = padded[..., :keys].masked_fill_(~mask[:, None, None, :], float("-inf"))
    query, key, value = (heads_first.transpose(1, 2) for heads_first in (query, key, value))
    attended: Tensor = memory_efficient_attention(query, key, value, attn_bias=bias)
    return attended.transpose(1, 2)


BACKENDS: dict[str, AttentionBackend] = {"sdpa": sdpa, "plain": plain, "xformers": xformers}


def attention_backend(name: str) -> AttentionBackend:
    """The backend of that name; ConfigError if there is none or its library is missing."""
    if name not in BACKENDS:
        raise ConfigError(f"attention backend {name!r}: {choices(name, BACKENDS)}")
    if name == "xformers" and find_spec("xformers") is None:
        raise ConfigError("attention backend 'xformers': install the extra unmask[xformers]")
    return BACKENDS[name]


def rotations_of(angles: Tensor) -> Rotations:
    """The cosines and sines of angles."""
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotations: Rotations) -> Tensor:
    """Rotate pairs of channels of (rows, heads, tokens, width) by angles (tokens, width / 2), whose
    cosines and sines are given (RoPE).
    """
    cosine, sine = (part.to(x.dtype) for part in rotations)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


def axial_angles(grid: tuple[int, ...], width: int, base: float) -> Tensor:
    """Angles (tokens, width / 2) of a grid: an equal share of the channels turns with each axis."""
    share = width // 2 // len(grid)
    rates = base ** (-torch.arange(share) / share)
    axes = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    angles = torch.cat([axis.flatten()[:, None] * rates for axis in axes], -1)
    return F.pad(angles, (0, width // 2 - angles.shape[-1]))
