"""What sets of clips are worth beside their verdicts: a distance of motion, and steadiness.

The distance is no FVD: that takes a network of videos whose weights are in no package. It is the
Frechet distance of features of frames and of how they change, and it reads low or high with the
number of clips: compare sets of one size only. It compares sets, so a set that holds as much of a
motion as of its reverse has no farther one when it is reversed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.evaluation.features import frechet_distance
from unmask.scenes.judge import Sight

COMPONENTS = 64  # as many as some hundred clips can fill the covariance of
MARGIN = 4  # pixels around what is found that may change
SEEN_CHANGE = 8 / 255  # of any channel


def motion_features(frames: Tensor) -> Tensor:
    """Features (clips, 3 x channels) of clips by those (clips, frames, channels) of their frames:
    their mean, how much they change from frame to frame, and from the first to the last."""
    change = frames.diff(dim=1).abs().mean(1)
    return torch.cat([frames.mean(1), change, frames[:, -1] - frames[:, 0]], 1)


def motion_frechet(ours: Tensor, wanted: Tensor) -> float:
    """The Frechet distance of motion features to those that are wanted, each channel in units of
    its spread there, along the directions in which those differ most."""
    mean, spread = wanted.mean(0), wanted.std(0).clamp_min(1e-6)
    ours, wanted = (ours - mean) / spread, (wanted - mean) / spread
    _, _, directions = torch.linalg.svd(wanted.double(), full_matrices=False)
    chosen = directions[:COMPONENTS].T
    return frechet_distance(ours.double() @ chosen, wanted.double() @ chosen)


def frame_cosine(frames: Tensor) -> float:
    """How alike neighbouring frames are, over features (clips, frames, channels). Higher is not
    better: a frozen clip has 1. Compare it with that of true clips."""
    return float(torch.cosine_similarity(frames[:, :-1], frames[:, 1:], dim=-1).mean())


def flicker(clips: Tensor, sights: Sequence[Sequence[Sight]]) -> float | None:
    """The share of pixels of (clips, frames, 3, height, width) that a step from frame to frame
    changes, where the judge finds nothing in any frame; None if there is no such place."""
    changed = steady = 0
    height, width = clips.shape[-2:]
    for frames, seen in zip(clips, sights, strict=True):
        free = torch.ones(height, width, dtype=torch.bool, device=frames.device)
        for sight in seen:
            for found in (*sight.objects, *sight.broken):
                reach = found.side / 2 + MARGIN
                top, left = max(0, int(found.y - reach)), max(0, int(found.x - reach))
                free[top : int(found.y + reach) + 1, left : int(found.x + reach) + 1] = False
        steps = frames.diff(dim=0).abs().amax(1) > SEEN_CHANGE
        changed += int(steps[:, free].sum())
        steady += len(steps) * int(free.sum())
    return changed / steady if steady else None
