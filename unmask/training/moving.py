"""Rendered clips as trainers take them, and how well a decoder draws the frames of a slot."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from unmask.scenes.data import DataConfig, open_bank
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import MOTION_NAMES, SLOT, MovingConfig, MovingScenes
from unmask.training.losses import psnr

SLOTS = 4  # that clips have behind the first frame where a single slot is drawn of each


def check_moving(data: DataConfig, *slots: int) -> None:
    """ValueError unless clips of these lengths can be rendered from the data."""
    if data.kind != "scenes":
        raise ValueError(f"data.kind: {data.kind!r}; clips are rendered from 'scenes'")
    for length in slots:
        MovingConfig(data.scenes, length)


def open_moving(data: DataConfig, slots: int, seed: int, device: str) -> MovingRenderer:
    """Clips of so many slots behind the first frame; another ``seed`` gives other clips."""
    scenes = replace(data.scenes, seed=data.scenes.seed + seed)
    return MovingRenderer(open_bank(data), MovingConfig(scenes, slots), device)


def slot_frames(
    source: MovingRenderer, count: int, index: int, slots: int = 1
) -> tuple[Tensor, MovingScenes]:
    """The frame before some slots and theirs, (count, 1 + slots x SLOT, 3, side, side), of each
    batch of clips others; and the truth of the whole clips."""
    scenes = source.composer.compose(count, index)
    first = SLOT * (index % (scenes.slots - slots + 1))
    return source.render(scenes, range(first, first + SLOT * slots + 1)), scenes


@torch.no_grad()
def psnr_by_motion(
    source: MovingRenderer, draw: Callable[[Tensor], Tensor], batches: int = 16
) -> dict[str, float]:
    """PSNR of whole slots, in all and by motion, of 64 clips a batch. ``draw`` makes the frames
    (batch, slot, 3, side, side) of a slot of the frame before it and its own."""
    ratios, motions = [], []
    for index in range(batches):
        frames, scenes = slot_frames(source, 64, index)
        drawn = draw(frames).clamp(0, 1).flatten(0, 1)
        ratios.append(psnr(drawn, frames[:, 1:].flatten(0, 1)).view(-1, SLOT).mean(1))
        motions.append(scenes.motion.amax(1))
    ratio, motion = torch.cat(ratios), torch.cat(motions)
    figures = {"psnr": float(ratio.mean())}
    for place, name in enumerate(MOTION_NAMES):
        if (motion == place).any():
            figures[f"psnr_{name.replace(' ', '_')}"] = float(ratio[motion == place].mean())
    return figures
