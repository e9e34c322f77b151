"""Matrices as whole numbers of eight bits, one scale a row, and products of such numbers.

A product is exact: its sums are whole numbers, in whatever order a kernel adds them. So what comes
of a token depends on no other token, on no number of rows or threads, and on no kernel's choice.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LEVELS = 127  # on either side of 0
_LEAST = 1e-30  # so that a token of zeros can be divided by its largest number
_SHIFT = 128
_NO_OFFSETS = torch.zeros(1, dtype=torch.int32)


class Rounded(NamedTuple):
    """``numbers`` int8 of a matrix (width, ...), and what one is worth in each row: ``scale``
    (width,) fp32."""

    numbers: Tensor
    scale: Tensor


def round_rows(matrix: Tensor) -> Rounded:
    """A matrix rounded to 255 steps a row. One that was rounded before keeps its numbers, as the
    largest of a row is 127 of its steps again."""
    wide = matrix.float().flatten(1)
    scale = wide.abs().amax(1) / LEVELS
    steps = (wide / scale.unsqueeze(1)).nan_to_num()  # a row of zeros has no scale
    return Rounded(steps.round().to(torch.int8).view(matrix.shape), scale)


def lay_out(rounded: Rounded) -> Rounded:
    """A rounded matrix (width, source), its numbers in tiles, as ``product`` reads them."""
    return Rounded(torch.ops.onednn.qlinear_prepack(rounded.numbers, None), rounded.scale)


def product(x: Tensor, tiles: Rounded) -> Tensor:
    """``x`` (tokens, source) times a matrix that was laid out: fp32 (tokens, width). Each token is
    rounded to 255 steps of its own."""
    steps = x.abs().amax(1, keepdim=True).float().clamp_(min=_LEAST).div_(LEVELS)  # (tokens, 1)
    numbers = (x / steps).round_().to(torch.int8)
    # VNNI multiplies unsigned numbers by signed ones: 128 is added, and the kernel told to take it
    # off again. For signed ones torch has a slow kernel only.
    shifted = numbers.view(torch.uint8).bitwise_xor_(_SHIFT)
    sums: Tensor = torch.ops.onednn.qlinear_pointwise(
        shifted, 1.0, _SHIFT, *tiles, _NO_OFFSETS, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return sums.mul_(steps)
