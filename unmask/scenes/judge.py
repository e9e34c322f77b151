"""The judge: a small detector that tells which objects a scene shows, and how whole they are.

One forward pass gives a grid of cells of 4x4 pixels. A cell that is the centre of something tells
whether that is a whole object or a broken one, its noun, its colours and its side.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask import config
from unmask.checkpoint import load_weights, save_folder
from unmask.tokenizers.vqgan import ResidualBlock, Upsample

STRIDE = 4  # pixels a cell
COARSEST = 8  # pixels that the sides of a picture are multiples of
TYPICAL_SIDE = 32.0  # pixels; sides are learned as the logarithm of their ratio to it
BATCH = 128  # pictures looked at together
PRESENT = 0.3  # a centre below this probability is nothing, not even a broken object
CARRIES = 0.5  # an object has every colour of at least this probability


@dataclass(frozen=True)
class JudgeConfig:
    """``config.json`` of a judge: the words that it knows, its size, and how strict it is.

    ``threshold`` is the least probability of being whole at which something counts as an object.
    """

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    backgrounds: tuple[str, ...]
    channels: tuple[int, int, int] = (48, 96, 128)  # at 1/2, 1/4 and 1/8 of the side
    blocks: int = 2
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not self.nouns or not self.colours or not self.backgrounds:
            raise ValueError("nouns, colours and backgrounds: a judge needs one of each")
        if min(self.channels) < 8 or any(channels % 8 for channels in self.channels):
            raise ValueError(f"channels: {self.channels}; the group norms need multiples of 8")
        if self.blocks < 0:
            raise ValueError(f"blocks: {self.blocks}; the least is 0")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold: {self.threshold}; the bounds are 0 and 1")


class Maps(NamedTuple):
    """What the detector makes of a batch; logits, in fp32, but for ``side``."""

    present: Tensor  # (batch, rows, columns): the centre of something
    whole: Tensor  # (batch, rows, columns): ... that is a whole object
    side: Tensor  # (batch, rows, columns): logarithm of its side / TYPICAL_SIDE
    nouns: Tensor  # (batch, rows, columns, nouns)
    colours: Tensor  # (batch, rows, columns, colours): independent, an object may carry two
    background: Tensor  # (batch, backgrounds)


@dataclass(frozen=True)
class Found:
    """Something in a picture: a whole object, or a broken one if ``whole`` is below the threshold.

    ``x`` and ``y`` are its centre and ``side`` its side in pixels. ``nouns`` are probabilities in
    the judge's order; ``colours`` all that it carries, by name.
    """

    x: float
    y: float
    side: float
    whole: float
    noun: str
    nouns: tuple[float, ...]
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Sight:
    """What a picture shows: ``objects`` are whole, ``broken`` the rest; and its background."""

    objects: tuple[Found, ...]
    broken: tuple[Found, ...]
    background: str


class Judge(nn.Module):
    """Fully convolutional: any picture whose sides are multiples of 8 pixels."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.channels
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, half, 3, padding=1), ResidualBlock(half)
        )
        self.middle = nn.Sequential(
            nn.Conv2d(half, quarter, 2, stride=2),
            *(ResidualBlock(quarter) for _ in range(config.blocks)),
        )
        self.deep = nn.Sequential(
            nn.Conv2d(quarter, eighth, 2, stride=2),
            *(ResidualBlock(eighth) for _ in range(config.blocks)),
        )
        self.up = Upsample(eighth, quarter)
        outputs = 3 + len(config.nouns) + len(config.colours)
        self.head = nn.Sequential(
            ResidualBlock(quarter),
            nn.GroupNorm(8, quarter),
            nn.SiLU(),
            nn.Conv2d(quarter, outputs, 1),
        )
        self.background = nn.Linear(eighth, len(config.backgrounds))

    def forward(self, images: Tensor) -> Maps:
        """The maps of (batch, 3, height, width) pictures in [0, 1]."""
        middle = self.middle(self.stem(images * 2 - 1))
        deep = self.deep(middle)
        out = self.head(middle + self.up(deep)).float().permute(0, 2, 3, 1)
        present, whole, side = out[..., 0], out[..., 1], out[..., 2]
        nouns, colours = out[..., 3:].split(
            (len(self.config.nouns), len(self.config.colours)), dim=-1
        )
        background = self.background(deep.mean((2, 3))).float()
        return Maps(present, whole, side, nouns, colours, background)

    @torch.no_grad()
    def look(self, images: Tensor) -> list[Sight]:
        """What each of (pictures, 3, height, width) in [0, 1] shows."""
        sights = []
        for first in range(0, len(images), BATCH):
            maps = self(images[first : first + BATCH])
            backgrounds = maps.background.argmax(-1).tolist()
            found = find(maps, self.config)
            for things, background in zip(found, backgrounds, strict=True):
                whole = [thing for thing in things if thing.whole >= self.config.threshold]
                broken = [thing for thing in things if thing.whole < self.config.threshold]
                name = self.config.backgrounds[background]
                sights.append(Sight(tuple(whole), tuple(broken), name))
        return sights


def find(maps: Maps, config: JudgeConfig) -> list[list[Found]]:
    """Everything in each picture, whole or broken, the surest first.

    A centre is a local maximum; of two that are nearer than half the side of the surer, one goes.
    """
    present = maps.present.sigmoid()
    peaks = (F.max_pool2d(present.unsqueeze(1), 3, 1, 1).squeeze(1) == present) & (
        present >= PRESENT
    )
    whole, side = maps.whole.sigmoid(), maps.side.exp() * TYPICAL_SIDE
    nouns, colours = maps.nouns.softmax(-1), maps.colours.sigmoid()
    found: list[list[Found]] = []
    for row in range(len(present)):
        cells = peaks[row].nonzero()
        order = present[row][cells[:, 0], cells[:, 1]].argsort(descending=True, stable=True)
        kept: list[Found] = []
        for y, x in cells[order].tolist():
            across, down = (x + 0.5) * STRIDE, (y + 0.5) * STRIDE
            if any(
                max(abs(across - other.x), abs(down - other.y)) < other.side / 2 for other in kept
            ):
                continue
            probabilities = nouns[row, y, x].tolist()
            kept.append(
                Found(
                    x=across,
                    y=down,
                    side=float(side[row, y, x]),
                    whole=float(whole[row, y, x]),
                    noun=config.nouns[probabilities.index(max(probabilities))],
                    nouns=tuple(probabilities),
                    colours=tuple(
                        colour
                        for colour, probability in zip(
                            config.colours, colours[row, y, x].tolist(), strict=True
                        )
                        if probability >= CARRIES
                    ),
                )
            )
        found.append(kept)
    return found


def save_judge(judge: Judge, folder: Path, threshold: float | None = None) -> None:
    """Write a judge in fp16, with its threshold unless another is given."""
    chosen = judge.config.threshold if threshold is None else threshold
    save_folder(judge, replace(judge.config, threshold=chosen), folder)


def load_judge(folder: Path, device: str = "cpu") -> Judge:
    """Read a judge in fp32, ready to look; raises ConfigError naming the file at fault."""
    judge = Judge(config.load(JudgeConfig, folder / "config.json"))
    load_weights(judge, folder / "model.safetensors")
    return judge.to(device).eval().requires_grad_(False)
