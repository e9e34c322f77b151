"""What moving scenes may show, and what a batch of them does show."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unmask.scenes.moving.motions import MOTIONS
from unmask.scenes.truth import SceneConfig, Scenes

SLOT = 4  # frames a slot; the first slot is one frame, held still
CELLS = 8  # along a side of the picture
ARRANGEMENTS = ("single", "pair", "passing", "count")
MOTION_NAMES = tuple(MOTIONS)


@dataclass(frozen=True)
class MovingConfig:
    """What clips look like, beside what ``scenes`` says of their objects (of which ``kinds``,
    ``most``, ``painted`` and ``snap`` say nothing here).

    ``slots`` follow the first frame; ``arrangements`` weighs ``ARRANGEMENTS``. Of motions, as of
    colours, ``scenes.held_out_percent`` of the pairs with a noun never come up.
    """

    scenes: SceneConfig
    slots: int = 4
    arrangements: tuple[float, ...] = (0.5, 0.25, 0.08, 0.17)

    def __post_init__(self) -> None:
        if len(self.arrangements) != len(ARRANGEMENTS) or not (
            min(self.arrangements) >= 0 < sum(self.arrangements)
        ):
            raise ValueError(
                f"arrangements: give {len(ARRANGEMENTS)} weights, for {', '.join(ARRANGEMENTS)}"
            )
        if self.slots < 1:
            raise ValueError(f"slots: {self.slots}; the least is 1")
        if self.scenes.size % CELLS:
            raise ValueError(f"scenes.size: {self.scenes.size}; it must be a multiple of {CELLS}")


@dataclass(frozen=True)
class MovingScenes:
    """The truth of a batch of clips: ``still`` tells what there is (its boxes are those of the
    first frame), and the rest its state at the end of each slot; in between it changes evenly.

    Objects further on stand in front. Absent ones have motion -1; speed is -1 where a motion has
    none.
    """

    still: Scenes
    arrangement: Tensor  # (batch,)
    motion: Tensor  # (batch, objects)
    speed: Tensor  # (batch, objects)
    boxes: Tensor  # (batch, objects, slots + 1, 4), in parts of the side
    alpha: Tensor  # (batch, objects, slots + 1)
    turns: Tensor  # (batch, objects, slots + 1) quarter turns clockwise

    @property
    def slots(self) -> int:
        """How many slots follow the first frame."""
        return self.alpha.shape[-1] - 1

    @property
    def frames(self) -> int:
        """How many frames a clip has."""
        return 1 + SLOT * self.slots

    def at(self, frame: int) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (batch, objects, 4), alpha and turns (batch, objects) in a frame."""
        slot, part = divmod(frame, SLOT)
        if not part:
            return self.boxes[:, :, slot], self.alpha[:, :, slot], self.turns[:, :, slot]
        share = part / SLOT
        boxes, alpha, turns = (
            torch.lerp(states[:, :, slot], states[:, :, slot + 1], share)
            for states in (self.boxes, self.alpha, self.turns)
        )
        return boxes, alpha, turns

    def first_way(self, row: int, item: int) -> str | None:
        """Where an object goes first: left, right, up or down; None if its corner stays."""
        for across, down in self.boxes[row, item, :, :2].diff(dim=0).tolist():
            if across:
                return "left" if across < 0 else "right"
            if down:
                return "up" if down < 0 else "down"
        return None

    def rows(self, rows: Tensor) -> "MovingScenes":
        """The clips of these rows, copied."""
        rest = {name: getattr(self, name)[rows] for name in _TENSORS}
        return MovingScenes(self.still.rows(rows), **rest)

    @staticmethod
    def joined(parts: Sequence["MovingScenes"]) -> "MovingScenes":
        """The clips of several batches, one after the other."""
        rest = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS}
        return MovingScenes(Scenes.joined([part.still for part in parts]), **rest)


_TENSORS = tuple(field.name for field in fields(MovingScenes) if field.name != "still")
