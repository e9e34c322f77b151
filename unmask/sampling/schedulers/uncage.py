"""UNCAGE: contrastive attention guidance (arXiv 2508.05399)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from unmask.sampling.backbone import RowTensors
from unmask.sampling.methods import method_option, option
from unmask.sampling.scheduler import Scheduler, ScoreContext, Subjects


@dataclass(frozen=True)
class Uncage(Scheduler, name="uncage"):
    """The base's score plus a weight times how clearly a position belongs to one object only.

    It acts in the first part of the steps, and where the prompt has two objects or more;
    everywhere else it is the base.
    """

    uncage_base: Scheduler = method_option(  # noqa: RUF009
        "scheduler", "confidence", "the scheduler that 'uncage' adds its contrast to"
    )
    uncage_weight: float = option(3.0, "weight of the attention contrast", 0, 100)
    uncage_share: float = option(0.25, "the first part of the steps that the contrast guides", 0, 1)
    uncage_blur: float = option(0.5, "Gaussian blur of attention maps, sigma in tokens", 0, 16)

    @property
    def idle_options(self) -> dict[str, str]:
        why = "uncage_weight is 0, which is off; give another weight"
        return {} if self.uncage_weight else {"uncage_share": why, "uncage_blur": why}

    @property
    def remasks(self) -> bool:
        return self.uncage_base.remasks

    @property
    def keeps_reveals(self) -> bool:
        return self.uncage_base.keeps_reveals

    @property
    def reads_attention(self) -> bool:
        return True

    def choice_temperatures(self, steps: int) -> Sequence[float]:
        return self.uncage_base.choice_temperatures(steps)

    def at(self, progress: float, subjects: Subjects) -> Scheduler:
        guided = progress < self.uncage_share and len(subjects) > 1 and self.uncage_weight > 0
        return self if guided else self.uncage_base.at(progress, subjects)

    def begin(self, grid: tuple[int, ...], uniforms: Tensor) -> RowTensors | None:
        return self.uncage_base.begin(grid, uniforms)

    def remember(self, context: ScoreContext, kept: Tensor) -> RowTensors | None:
        return self.uncage_base.remember(context, kept)

    def score(self, context: ScoreContext) -> Tensor:
        assert context.attention is not None, "it asked for attention"
        contrasts = [
            contrast(attention, subjects, context.grid, self.uncage_blur)
            for attention, subjects in zip(context.attention, context.subjects, strict=True)
        ]
        return self.uncage_base.score(context) + self.uncage_weight * torch.stack(contrasts)


def contrast(attention: Tensor, subjects: Subjects, grid: tuple[int, ...], sigma: float) -> Tensor:
    """max over objects of (least attention to its words - most to words of others), (tokens,).

    ``attention`` is (tokens, text positions). Each word's map is blurred and scaled to a maximum of
    1, so the result lies in [-1, 1]; the paper leaves its scaling open.
    """
    objects = [
        torch.stack([_map(attention[:, list(word)].mean(-1), grid, sigma) for word in words])
        for words in subjects
    ]
    # All words of an object must agree; of the others the loudest counts.
    weakest = torch.stack([words.amin(0) for words in objects])
    strongest = [words.amax(0) for words in objects]
    others = torch.stack(
        [
            torch.stack(strongest[:i] + strongest[i + 1 :]).amax(0)
            if len(objects) > 1
            else torch.zeros_like(weakest[0])
            for i in range(len(objects))
        ]
    )
    return (weakest - others).amax(0)


def _map(attention: Tensor, grid: tuple[int, ...], sigma: float) -> Tensor:
    """A word's attention (cells,), blurred within each frame and scaled to its maximum there: what
    is said of one frame is not drowned by what another shows more clearly."""
    frames = [
        gaussian_blur(frame, sigma).flatten() for frame in attention.view(-1, *grid[-2:]).unbind()
    ]
    return torch.cat([frame / frame.amax().clamp_min(1e-12) for frame in frames])


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """(rows, columns) blurred by a Gaussian of ``sigma`` cells, mirrored at the edges: the sum
    stays what it was."""
    rows, columns = (_blur_matrix(side, sigma, image.device) for side in image.shape)
    return rows @ image @ columns.T


@lru_cache(maxsize=64)
def _blur_matrix(side: int, sigma: float, device: torch.device) -> Tensor:
    """The blur of one axis, (side, side): symmetric, and every row sums to 1."""
    if sigma < 0.1:  # the next cell would get e^-50 of it
        return torch.eye(side, device=device)
    reach = math.ceil(4 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = torch.zeros(side, side)
    for cell in range(side):
        place = (cell + offsets) % (2 * side)
        mirrored = torch.where(place < side, place, 2 * side - 1 - place)
        matrix[cell].index_add_(0, mirrored, weights)
    return matrix.to(device)
