"""What keeps the numbers of a row the same, to the bit, whatever rows run beside it on a CPU.

The rules are few, and all constants and kernels that they need are here; ``docs/numerics.md`` tells
how they were found, where each is kept and which test holds it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# A CPU multiplies fewer rows with other kernels, which sum in another order.
FEWEST_ROWS = 16
# Up to this width products of any height sum a row alike: tried up to 2,048 rows, on one and two
# threads, in fp32 and bf16. Two threads of MKL begin to part sums of 1,024 numbers.
WIDEST_ALIKE = 704
# Of packed weights (``models.linear``): so many rows go through a layer while it is at hand.
PACKED_ROWS = 8


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function`` of ``x``; on a CPU row by row of (rows, ..., width).

    Its products are then small enough to stay in caches, and as alike as those of a lone row: how
    GELU comes out depends on where three threads share the numbers out.
    """
    if x.ndim < 3 or len(x) == 1 or x.device.type != "cpu":
        return function(x)
    return torch.cat([function(row) for row in torch.split(x, 1)])


def pad_rows(x: Tensor) -> Tensor:
    """``x`` (rows, width) with rows of zeros after its own, up to the fewest that are multiplied
    alike."""
    return F.pad(x, (0, 0, 0, max(FEWEST_ROWS - len(x), 0)))


def repeat_first(places: Tensor, length: int) -> Tensor:
    """``places`` (rows, some) filled up to (rows, length) with the first of every row; as they are
    if they are as many."""
    missing = length - places.shape[1]
    return torch.cat([places, places[:, :1].expand(-1, missing)], 1) if missing > 0 else places


def whole_blocks(queries: int, beside: int) -> int:
    """How many queries to run in place of so many, ``beside`` others that attend with them.

    A CPU's fused attention takes queries in blocks, of which the last, if short, sums in another
    order. Convolutions of single places ask for twice the fewest rows.
    """
    least = max(queries, 2 * FEWEST_ROWS)
    return least + -(beside + least) % FEWEST_ROWS


def channels_last(x: Tensor) -> Tensor:
    """(rows, height, width, channels), contiguous, of (rows, channels, height, width).

    How a convolution lays out one row may differ from how it does several, and the order in which
    a norm sums follows the layout: without this a row would depend on its neighbours.
    """
    return x.permute(0, 2, 3, 1).contiguous()
