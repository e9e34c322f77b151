"""Distances between sets of pictures in the features of EfficientNet-lite0.

The features are those of the classifier that the perceptual loss of training uses: 112 channels at
1/16 of the side, averaged over the picture. Few enough that some hundred pictures fill their
covariance; and another network than Inception, so nothing here is an FID.
"""

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.scenes.classifier import Classifier

BATCH = 64


class Features:
    """Pictures to vectors; ConfigError without the ``eval`` extra."""

    def __init__(self) -> None:
        try:
            self.classifier = Classifier()
        except ImportError as error:
            raise ConfigError(
                f"distances need EfficientNet ({error.name}): pip install 'unmask[eval]'"
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The features (pictures, 112), fp32, of (pictures, 3, height, width) in [0, 1]."""
        parts = torch.split(images, BATCH)
        return torch.cat([torch.mean(self.classifier(part)[-1], (2, 3)) for part in parts])


def frechet_distance(ours: Tensor, theirs: Tensor) -> float:
    """The Frechet distance of two normal distributions fitted to features (pictures, channels).

    Few pictures make it larger: compare sets of one size only. ValueError below two pictures.
    """
    if min(len(ours), len(theirs)) < 2:
        raise ValueError("a Frechet distance needs two pictures a side")
    ours, theirs = ours.double(), theirs.double()
    first, second = torch.cov(ours.T), torch.cov(theirs.T)
    root = _square_root(first)
    # tr sqrt(A B) = tr sqrt(sqrt(A) B sqrt(A)), whose matrix is symmetric.
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    gap = (ours.mean(0) - theirs.mean(0)).square().sum()
    return max(float(gap + first.trace() + second.trace() - 2 * cross), 0.0)


def diversity(features: Tensor) -> float:
    """The mean distance between images of one prompt, over (prompts, images, channels) features;
    0 if there is one image a prompt."""
    images = features.shape[1]
    if images < 2:
        return 0.0
    distances = torch.cdist(features, features).sum((1, 2)) / (images * (images - 1))
    return float(distances.mean())


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
