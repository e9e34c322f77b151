"""Rotary embedding as Meissonic has it: pairs of neighbouring channels, by row and by column."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_ROPE_BASE = 10000.0

Rotations = tuple[Tensor, Tensor]  # cosines and sines (tokens, head), or (rows, 1, tokens, head)


def rotate(x: Tensor, rotations: Rotations) -> Tensor:
    """Rotate pairs of neighbouring channels of (rows, heads, tokens, head), in fp32."""
    cosine, sine = rotations
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return (x.float() * cosine + turned.float() * sine).to(x.dtype)  # (rows, heads, tokens, head)


@lru_cache(maxsize=16)
def rotations_of(
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
