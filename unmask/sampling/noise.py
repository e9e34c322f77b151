"""The noise of a request: a function of (seed, image index) and nothing else.

Drawn on the CPU from a counter-based generator (Philox) whose raw stream numpy keeps fixed across
versions, so neither device nor batch, row or library version changes a picture.
"""

import numpy as np
import torch
from torch import Tensor

SEED_BOUND = 2**64


def request_noise(seed: int, image_index: int, steps: int, tokens: int) -> Tensor:
    """Uniforms (steps, 2, tokens) in (0, 1), fp32: row 0 draws the value, row 1 the position.

    Step by step in the stream: another number of steps leaves the first ones as they were.
    """
    raw = np.random.Philox(key=np.array([seed, image_index], dtype=np.uint64)).random_raw(
        steps * 2 * tokens
    )
    # 23 bits and a half: every value is exact in fp32 and lies strictly between 0 and 1.
    uniforms = ((raw >> np.uint64(41)).astype(np.float64) + 0.5) * 2.0**-23
    return torch.from_numpy(uniforms.astype(np.float32)).view(steps, 2, tokens)


def gumbel(uniforms: Tensor) -> Tensor:
    """Standard Gumbel noise from uniforms in (0, 1)."""
    return -torch.log(-torch.log(uniforms))
