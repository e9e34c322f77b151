"""Learning a low-rank change of matrices that stay as they are (LoRA, arXiv 2106.09685)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unmask.config import check_bounds
from unmask.models.native import NativeTransformer


@dataclass(frozen=True)
class LowRankConfig:
    """How wide the changes are, and what they are worth: ``alpha`` / ``rank`` times their product
    is added."""

    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        check_bounds(self, rank=(1, 1024), alpha=(1e-3, 1e4))


class LowRank(nn.Module):
    """Adds the product of two narrow matrices to a weight (out, in); at first it is zero."""

    def __init__(self, weight: Tensor, config: LowRankConfig) -> None:
        super().__init__()
        self.factor = config.alpha / config.rank
        self.down = nn.Parameter(torch.randn(config.rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(len(weight), config.rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.factor * (self.up @ self.down)


def lower(backbone: NativeTransformer, config: LowRankConfig) -> None:
    """Freeze a backbone but for changes of low rank to all matrices of its blocks."""
    backbone.requires_grad_(False)
    for layer in _layers(backbone).values():
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, config))


def changes(backbone: NativeTransformer) -> dict[str, tuple[Tensor, Tensor]]:
    """What narrows and what widens, by the name of each module that ``lower`` has changed."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in _layers(backbone).items():
        change = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
        assert isinstance(change, LowRank)
        found[name] = (change.down, change.up)
    return found


def _layers(backbone: NativeTransformer) -> dict[str, nn.Linear]:
    return {
        name: module
        for name, module in backbone.named_modules()
        if name.startswith("blocks.") and isinstance(module, nn.Linear)
    }
