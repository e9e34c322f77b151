"""What scenes may show, and what a batch of them does show."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.scenes.vocabulary import BACKGROUND_NAMES, BACKGROUNDS, COLOURS, KINDS, SHADES, TRIO


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like. ``kinds`` weighs single objects, counts, pairs and trios; what is
    left out never comes up.

    ``more_colours`` and ``shades`` are the shares of coloured objects whose colour is one of
    ``MORE_COLOURS``, or of ``SHADES``; ``scenery`` that of pictures whose background is painted.
    ``snap`` puts the edges of objects onto multiples of so many pixels: fewer distinct patches to
    learn, for models that train on a CPU. 1 leaves them where they fall.
    """

    size: int
    seed: int = 0
    kinds: tuple[float, ...] = (0.4, 0.25, 0.35)
    most: int = 3
    natural: float = 0.2
    more_colours: float = 0.0
    shades: float = 0.0
    scenery: float = 0.0
    painted: float = 0.0
    snap: int = 1
    held_out_percent: int = 8

    def __post_init__(self) -> None:
        if not 1 <= len(self.kinds) <= len(KINDS) or not min(self.kinds) >= 0 < sum(self.kinds):
            raise ValueError(f"kinds: give weights for {', '.join(KINDS)}, {len(KINDS)} at most")
        if self.size < 8:
            raise ValueError(f"size: {self.size} pixels; the least is 8")
        for name in ("natural", "more_colours", "shades", "scenery", "painted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; the bounds are 0 and 1")
        if self.more_colours + self.shades > 1:
            raise ValueError(
                f"more_colours: {self.more_colours} and shades: {self.shades} are more than all"
            )
        if self.snap < 1 or self.size % self.snap:
            raise ValueError(f"snap: {self.snap} does not divide the size, {self.size}")
        if self.most not in range(2, 5):
            raise ValueError(f"most: {self.most} objects of one kind; the bounds are 2 and 4")

    @property
    def trios(self) -> bool:
        """Whether three different objects come up."""
        return any(self.kinds[TRIO:])

    @property
    def colours(self) -> tuple[str, ...]:
        """The first of ``COLOUR_NAMES``, which a judge knows."""
        return (*COLOURS, *SHADES) if self.shades else tuple(COLOURS)

    @property
    def backgrounds(self) -> tuple[str, ...]:
        """The first of ``BACKGROUND_NAMES``, as far as they are drawn."""
        return BACKGROUND_NAMES if self.scenery else tuple(BACKGROUNDS)


@dataclass(frozen=True)
class Scenes:
    """The ground truth of a batch; absent objects and natural colours are -1, colours index
    ``COLOUR_NAMES``, backgrounds ``BACKGROUND_NAMES``, and styles those of the sprite bank.

    ``boxes`` are (left, top, right, bottom) in parts of the side. ``relation`` holds between the
    first two objects of a pair, ``place`` is that of a single object. Scenery is moved
    right by ``shift`` eighths of the side.
    """

    kind: Tensor  # (batch,)
    background: Tensor  # (batch,)
    relation: Tensor  # (batch,) -1 unless a pair
    place: Tensor  # (batch,) -1 unless single
    sprites: Tensor  # (batch, objects)
    nouns: Tensor  # (batch, objects)
    colours: Tensor  # (batch, objects)
    boxes: Tensor  # (batch, objects, 4)
    style: Tensor  # (batch,)
    shift: Tensor  # (batch,)
    painting: Tensor  # (batch, 5) tilt and strength of a painted background, zeros if plain

    def rows(self, rows: Tensor) -> "Scenes":
        """The scenes of these rows, copied."""
        return Scenes(**{name: tensor[rows] for name, tensor in vars(self).items()})

    @staticmethod
    def joined(parts: Sequence["Scenes"]) -> "Scenes":
        """The scenes of several batches, one after the other."""
        names = Scenes.__dataclass_fields__
        return Scenes(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})
