"""Linear layers whose weight a CPU need not lay out anew for every product.

A CPU's matrix unit reads a bf16 weight in tiles. Given a plain one, oneDNN makes the tiles at each
product, a tenth to a quarter of its time at 256 tokens; in fp32 MKL is a tenth slower row by row.
And how they sum depends on the number of rows. Packed once, a weight serves rows one by one nearly
as quickly as a plain one serves them together. Its sums are those of plain rows in bf16 at the
sizes of aMUSEd, but for some other shapes on several threads; in fp32 they are oneDNN's, a few 1e-6
from MKL's.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_USUAL_TOKENS = 256  # of a row: a hint for the layout
PACKED_ROWS = 4  # of a bf16 backbone that run through a layer together: more are no quicker
_DTYPES = (torch.bfloat16, torch.float32)


class Linear(nn.Linear):
    """A linear layer that may be packed (see ``pack``). Then it multiplies (rows, tokens, width)
    row by row, so that the numbers of a row do not depend on how many others there are."""

    @property
    def packed(self) -> bool:
        return self.weight.is_mkldnn

    def forward(self, input: Tensor) -> Tensor:
        return self.product(input, self.bias)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x`` times the weight, and this bias instead of the layer's own."""
        if not self.packed:
            return F.linear(x, self.weight, bias)
        multiply = torch.ops.mkldnn._linear_pointwise
        return by_rows(lambda row: multiply(row, self.weight, bias, "none", [], ""), x)


def by_rows(multiply: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What ``multiply`` makes of ``x``; on a CPU row by row of (rows, tokens, width), all of whose
    products are then small enough to stay in its caches."""
    if x.ndim < 3 or len(x) == 1 or x.device.type != "cpu":
        return multiply(x)
    return torch.cat([multiply(row) for row in torch.split(x, 1)])


def rows_together(layer: Linear) -> int:
    """How many rows of such a backbone may run together on a CPU: packed in bf16, a few leave each
    other's numbers alone in all else that it does too. In fp32 they do not."""
    return PACKED_ROWS if layer.packed and layer.weight.dtype == torch.bfloat16 else 1


def pack(module: nn.Module) -> None:
    """Pack the weights of every ``Linear`` in bf16 and fp32, on the CPUs where that was tried:
    those with Intel's AMX. A packed module can be neither moved nor saved."""
    if not torch.cpu._is_amx_tile_supported():
        return
    for layer in module.modules():
        if not isinstance(layer, Linear) or layer.packed:
            continue
        weight = layer.weight.detach()
        if weight.device.type == "cpu" and weight.dtype in _DTYPES:
            tiles = torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_TOKENS)
            layer.weight = nn.Parameter(tiles, requires_grad=False)
