"""Codes that share weights where they have a digit in common, while a transformer is trained."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unmask.models.native import NativeTransformer


class SharedDigits(nn.Module):
    """Adds to the weights of a code what all codes share that have a digit in common with it."""

    places: Tensor

    def __init__(self, digits: Tensor, width: int) -> None:
        """``digits`` is (codes, channels), from 0."""
        super().__init__()
        sizes = digits.amax(0) + 1
        self.register_buffer("places", digits + sizes.cumsum(0) - sizes, persistent=False)
        self.shared = nn.Embedding(int(sizes.sum()), width)
        nn.init.normal_(self.shared.weight, std=0.02)

    def forward(self, weights: Tensor) -> Tensor:
        """The weights of the codes, (codes or more, width); rows behind them stay as they are."""
        codes = len(self.places)
        return torch.cat([weights[:codes] + self.shared(self.places).sum(1), weights[codes:]])


def share_digits(backbone: NativeTransformer, digits: Tensor) -> None:
    """Let embedding and head of a backbone share by digits; ``without_sharing`` ends it."""
    for layer in (backbone.token_embedding, backbone.head):
        sharing = SharedDigits(digits, backbone.config.width)
        parametrize.register_parametrization(layer, "weight", sharing)


def without_sharing(backbone: NativeTransformer) -> NativeTransformer:
    """A copy with the same weights as plain parameters."""
    # Not a deep copy whose sharing is removed: both would be of one class, which loses it.
    plain = NativeTransformer(backbone.config)
    ends = {
        f"{name}.weight": layer.weight
        for name, layer in (("token_embedding", backbone.token_embedding), ("head", backbone.head))
    }
    shared = backbone.state_dict().items()
    rest = {name: tensor for name, tensor in shared if "parametrizations" not in name}
    plain.load_state_dict(rest | ends)
    return plain
