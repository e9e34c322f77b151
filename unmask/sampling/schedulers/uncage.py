"""UNCAGE: contrastive attention guidance (arXiv 2508.05399)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unmask.sampling.schedulers.base import Scheduler, ScoreContext, Subjects


@dataclass(frozen=True)
class Uncage(Scheduler):
    """The base's score plus ``weight`` times how clearly a position belongs to one object only.

    It acts in the first ``share`` of the steps, and where the prompt has two objects or more;
    everywhere else it is the base.
    """

    base: Scheduler
    weight: float
    share: float
    blur: float  # sigma in tokens

    @property
    def remasks(self) -> bool:
        return self.base.remasks

    @property
    def attends(self) -> bool:
        return True

    def at(self, progress: float, subjects: Subjects) -> Scheduler:
        guided = progress < self.share and len(subjects) > 1 and self.weight > 0
        return self if guided else self.base.at(progress, subjects)

    def score(self, context: ScoreContext) -> Tensor:
        assert context.attention is not None
        contrasts = [
            contrast(attention, subjects, context.grid, self.blur)
            for attention, subjects in zip(context.attention, context.subjects, strict=True)
        ]
        return self.base.score(context) + self.weight * torch.stack(contrasts)


def contrast(attention: Tensor, subjects: Subjects, grid: tuple[int, int], sigma: float) -> Tensor:
    """max over objects of (least attention to its words - most to words of others), (tokens,).

    ``attention`` is (tokens, text positions). Each word's map is blurred and scaled to a maximum of
    1, so the result lies in [-1, 1]; the paper leaves its scaling open.
    """
    objects = [
        torch.stack([_map(attention[:, list(word)].mean(-1), grid, sigma) for word in words])
        for words in subjects
    ]
    own = torch.stack([words.amin(0) for words in objects])
    strongest = [words.amax(0) for words in objects]
    others = torch.stack(
        [
            torch.stack(strongest[:i] + strongest[i + 1 :]).amax(0)
            if len(objects) > 1
            else torch.zeros_like(own[0])
            for i in range(len(objects))
        ]
    )
    return (own - others).amax(0)


def _map(attention: Tensor, grid: tuple[int, int], sigma: float) -> Tensor:
    blurred = gaussian_blur(attention.view(grid), sigma).flatten()
    return blurred / blurred.amax().clamp_min(1e-12)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """(rows, columns) blurred by a Gaussian of ``sigma`` cells, mirrored at the edges: the sum
    stays what it was."""
    rows, columns = (_blur_matrix(side, sigma).to(image.device) for side in image.shape)
    return rows @ image @ columns.T


@lru_cache(maxsize=64)
def _blur_matrix(side: int, sigma: float) -> Tensor:
    """The blur of one axis, (side, side): symmetric, and every row sums to 1."""
    if sigma < 0.1:  # the next cell would get e^-50 of it
        return torch.eye(side)
    reach = math.ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = torch.zeros(side, side)
    for cell in range(side):
        place = (cell + offsets) % (2 * side)
        mirrored = torch.where(place < side, place, 2 * side - 1 - place)
        matrix[cell].index_add_(0, mirrored, weights)
    return matrix
