"""Frames of moving scenes, drawn as pictures are."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unmask.scenes.moving.composer import MovingComposer
from unmask.scenes.moving.truth import SLOT, MovingConfig, MovingScenes
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank


class MovingRenderer:
    """Draws clips of a sprite bank on one device."""

    def __init__(self, bank: SpriteBank, config: MovingConfig, device: str = "cpu") -> None:
        self.bank, self.config = bank, config
        self.composer = MovingComposer(bank, config)
        self._stills = SceneRenderer(bank, config.scenes, device)

    def draw(self, count: int, index: int) -> tuple[Tensor, MovingScenes]:
        """Batch ``index`` of clips, (count, frames, 3, size, size) in [0, 1], and their truth."""
        scenes = self.composer.compose(count, index)
        return self.render(scenes), scenes

    def render(self, scenes: MovingScenes, frames: Sequence[int] | None = None) -> Tensor:
        """These frames of clips, all if None, as (batch, frames, 3, size, size) in [0, 1]."""
        chosen = range(scenes.frames) if frames is None else frames
        states = [scenes.at(frame) for frame in chosen]
        boxes, alpha, turns = (torch.cat(parts) for parts in zip(*states, strict=True))
        rows = torch.arange(len(scenes.arrangement)).repeat(len(states))
        still = scenes.still.rows(rows)
        shown = torch.where(alpha > 0, still.sprites, -1)
        pictures = self._stills.render(replace(still, boxes=boxes, sprites=shown), alpha, turns)
        return pictures.view(len(states), -1, *pictures.shape[1:]).transpose(0, 1)

    def key_frames(self, scenes: MovingScenes) -> Tensor:
        """The frames that end a slot, (batch, slots + 1, 3, size, size)."""
        return self.render(scenes, range(0, scenes.frames, SLOT))
