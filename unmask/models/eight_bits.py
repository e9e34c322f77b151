"""Linear layers of eight bits: weights rounded once, activations token by token as they come (W8A8,
as in ViDiT-Q, arXiv 2406.02540)."""

from torch import Tensor, nn

from unmask.eight_bits import Rounded, lay_out, product, round_rows
from unmask.models.linear import Linear, Pointwise


class EightBitLinear(Linear):
    """A linear layer, or a convolution of single places, whose weight (width, source, ...) is
    rounded: (..., source) to (..., width). It can be neither moved nor saved.

    A token comes out the same, to the bit, whatever others there are.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        width, source = weight.shape[:2]
        super().__init__(source, width, bias=False, device="meta")
        tiles, scale = lay_out(round_rows(weight.detach().flatten(1)))
        self.register_buffer("scale", scale)
        self.weight = nn.Parameter(tiles, requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias, requires_grad=False)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """See ``Linear``; in the type of ``x``."""
        matrix = Rounded(self.weight, self.scale)
        tokens = product(x.reshape(-1, self.in_features), matrix)
        if bias is not None:
            tokens += bias
        return tokens.to(x.dtype).view(*x.shape[:-1], self.out_features)


def use_eight_bits(module: nn.Module) -> None:
    """Put layers of eight bits in the places of all linear ones, one after the other, so that the
    weights are not held twice."""
    for name, layer in module.named_children():
        if isinstance(layer, nn.Linear | Pointwise):
            setattr(module, name, EightBitLinear(layer.weight, layer.bias))
        else:
            use_eight_bits(layer)
