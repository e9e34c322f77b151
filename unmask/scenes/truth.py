"""What scenes may show, and what a batch of them does show."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.scenes.vocabulary import KINDS


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like. ``kinds`` weighs single objects, counts and pairs.

    ``more_colours`` is the share of coloured objects whose colour is one of ``MORE_COLOURS``.
    ``snap`` puts the edges of objects onto multiples of so many pixels: fewer distinct patches to
    learn, for models that train on a CPU. 1 leaves them where they fall.
    """

    size: int
    seed: int = 0
    kinds: tuple[float, ...] = (0.4, 0.25, 0.35)
    most: int = 3
    natural: float = 0.2
    more_colours: float = 0.0
    painted: float = 0.0
    snap: int = 1
    held_out_percent: int = 8

    def __post_init__(self) -> None:
        if len(self.kinds) != len(KINDS) or min(self.kinds) < 0 or sum(self.kinds) <= 0:
            raise ValueError(f"kinds: give {len(KINDS)} weights, for {', '.join(KINDS)}")
        if self.size < 8:
            raise ValueError(f"size: {self.size} pixels; the least is 8")
        for name in ("natural", "more_colours", "painted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; the bounds are 0 and 1")
        if self.snap < 1 or self.size % self.snap:
            raise ValueError(f"snap: {self.snap} does not divide the size, {self.size}")
        if self.most not in range(2, 5):
            raise ValueError(f"most: {self.most} objects of one kind; the bounds are 2 and 4")


@dataclass(frozen=True)
class Scenes:
    """The ground truth of a batch; absent objects and natural colours are -1, colours index
    ``COLOUR_NAMES``.

    ``boxes`` are (left, top, right, bottom) in parts of the side. ``relation`` holds between the
    first two objects of a pair, ``place`` is that of a single object.
    """

    kind: Tensor  # (batch,)
    background: Tensor  # (batch,)
    relation: Tensor  # (batch,) -1 unless a pair
    place: Tensor  # (batch,) -1 unless single
    sprites: Tensor  # (batch, objects)
    nouns: Tensor  # (batch, objects)
    colours: Tensor  # (batch, objects)
    boxes: Tensor  # (batch, objects, 4)
    painting: Tensor  # (batch, 5) tilt and strength of a painted background, zeros if plain

    def rows(self, rows: Tensor) -> "Scenes":
        """The scenes of these rows, copied."""
        return Scenes(**{name: tensor[rows] for name, tensor in vars(self).items()})

    @staticmethod
    def joined(parts: Sequence["Scenes"]) -> "Scenes":
        """The scenes of several batches, one after the other."""
        names = Scenes.__dataclass_fields__
        return Scenes(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})
