"""The noise of a request: a function of (seed, image index) and nothing else.

Drawn on the CPU from a counter-based generator (Philox) whose raw stream numpy keeps fixed across
versions, so neither device nor batch, row or library version changes a picture. What the numbers
are for and the window they belong to sit in the counter's upper words: streams that never meet.
"""

import math
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

SEED_BOUND = 2**64


class Purpose(IntEnum):
    """What a stream of noise is for; the numbers must never change."""

    STEPS = 0  # values and positions
    LOGITS = 1  # noise regularisation
    CELLS = 2  # which tokens an edit draws anew


def uniforms(
    seed: int, image_index: int, count: int, purpose: Purpose, window: int = 0, step: int = 0
) -> Tensor:
    """``count`` uniforms in (0, 1), fp32."""
    counter = np.array([0, step, window, purpose], dtype=np.uint64)
    key = np.array([seed, image_index], dtype=np.uint64)
    raw = np.random.Philox(key=key, counter=counter).random_raw(count)
    # 23 bits and a half: every value is exact in fp32 and lies strictly between 0 and 1.
    return torch.from_numpy((((raw >> np.uint64(41)) + 0.5) * 2.0**-23).astype(np.float32))


def request_noise(seed: int, image_index: int, steps: int, tokens: int, window: int = 0) -> Tensor:
    """Uniforms (steps, 2, tokens) in (0, 1), fp32: row 0 draws the value, row 1 the position.

    Step by step in the stream: another number of steps leaves the first ones as they were.
    """
    drawn = uniforms(seed, image_index, steps * 2 * tokens, Purpose.STEPS, window)
    return drawn.view(steps, 2, tokens)


def gumbel(uniforms: Tensor) -> Tensor:
    """Standard Gumbel noise from uniforms in (0, 1)."""
    return -torch.log(-torch.log(uniforms))


def normal(uniforms: Tensor) -> Tensor:
    """Standard normal noise from uniforms in (0, 1)."""
    return math.sqrt(2) * torch.erfinv(2 * uniforms - 1)
