"""Linear layers whose weight a CPU need not lay out anew for every product.

A CPU's matrix unit reads a bf16 weight in tiles. Given a plain one, oneDNN makes the tiles at each
product, a tenth to a quarter of its time at 256 tokens; in fp32 MKL is a tenth slower row by row.
And how they sum depends on the number of rows. Packed once, a bf16 weight serves rows one by one
nearly as quickly as a plain one serves them together, and a fp32 one serves them together with the
sums of one. Those sums are a plain layer's in bf16 at the sizes of aMUSEd, but for some other
shapes on several threads; in fp32 they are oneDNN's, a few 1e-6 from MKL's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.numerics import FEWEST_ROWS, PACKED_ROWS, by_rows

_USUAL_TOKENS = 256  # of a row: a hint for the layout
_DTYPES = (torch.bfloat16, torch.float32)


class Linear(nn.Linear):
    """A linear layer that may be packed (see ``pack``). Then the numbers of a row of (rows, tokens,
    width) do not depend on how many others there are."""

    @property
    def packed(self) -> bool:
        """Whether the weights lie packed for the CPU's kernels (``pack``)."""
        return self.weight.is_mkldnn

    def forward(self, input: Tensor) -> Tensor:
        return self.product(input, self.bias)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x`` times the weight, and this bias instead of the layer's own."""
        if not self.packed:
            return F.linear(x, self.weight, bias)
        return _packed_product(x, self.weight, bias)


class Pointwise(nn.Conv2d):
    """A convolution of one place at a time, (rows, places, channels) in and out. Packed, it is a
    packed linear layer, whose sums are not quite a convolution's."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__(source, width, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.is_mkldnn:
            return _packed_product(input, self.weight, None)
        places: Tensor = super().forward(input.transpose(1, 2).unsqueeze(-1))
        return places.squeeze(-1).transpose(1, 2)  # (rows, places, channels)


def _packed_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    def multiply(rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
        return product

    # In fp32 a row's sums were seen to be the same beside others, from two tokens on, whatever the
    # threads; and all rows at once are quicker.
    if x.dtype == torch.float32 and x.shape[1:-1].numel() >= FEWEST_ROWS:
        return multiply(x)
    return by_rows(multiply, x)


def packed_rows_per_pass(layer: Linear) -> int:
    """How many rows of such a backbone may run together on a CPU: packed, a few leave each other's
    numbers alone in all else that it does too. That was seen on the CPUs of ``pack`` alone: beside
    products of eight bits, which more CPUs have, fused attention did not."""
    return PACKED_ROWS if layer.packed and layer.weight.is_floating_point() else 1


def pack(module: nn.Module) -> None:
    """Pack the weights of every ``Linear`` in bf16 and fp32, on the CPUs where that was tried:
    those with Intel's AMX. A packed module can be neither moved nor saved."""
    if not torch.cpu._is_amx_tile_supported():
        return
    for layer in module.modules():
        if not isinstance(layer, Linear | Pointwise) or layer.weight.is_mkldnn:
            continue
        weight = layer.weight.detach().flatten(1)
        if weight.device.type == "cpu" and weight.dtype in _DTYPES:
            tiles = torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_TOKENS)
            layer.weight = nn.Parameter(tiles, requires_grad=False)
