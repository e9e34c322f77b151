"""Training of the judge, on scenes that are partly broken on purpose."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from unmask.config import check_bounds
from unmask.devices import sent
from unmask.errors import ConfigError
from unmask.scenes.data import DataConfig
from unmask.scenes.judge import Found, Judge, JudgeConfig, save_judge
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.seeds import HELD_OUT
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.folder import load_reduced
from unmask.training.broken import Truth, broken_scenes
from unmask.training.judge_figures import best_threshold, is_right, judge_figures
from unmask.training.judge_loss import centre_cells, judge_losses
from unmask.training.loop import LoopConfig
from unmask.training.losses import MOST_WEIGHT
from unmask.training.sources import SceneSource, open_source

HELD_OUT_SCENES = 1024
GREEN, RED = (0.0, 0.8, 0.0), (0.9, 0.0, 0.0)


@dataclass(frozen=True)
class JudgeSize:
    """The sizes that the data does not fix; see ``JudgeConfig``."""

    channels: tuple[int, int, int] = (48, 96, 128)
    blocks: int = 2

    def __post_init__(self) -> None:
        check_bounds(self, channels=(8, 4096), blocks=(0, 100))
        if any(channels % 8 for channels in self.channels):
            raise ValueError(f"channels: {self.channels}; the group norms need multiples of 8")


@dataclass(frozen=True)
class JudgeLoss:
    """Weights of the terms, and what is done to the pictures.

    ``broken`` is the share of objects that get another half or are broken, ``decoded`` that of
    pictures that pass through the tokenizer, ``corrupted`` that of tokens replaced by random ones
    in half of those.
    """

    present: float = 1.0
    whole: float = 1.0
    nouns: float = 1.0
    colours: float = 1.0
    side: float = 0.5
    background: float = 0.2
    broken: float = 0.35
    decoded: float = 0.5
    corrupted: float = 0.02

    def __post_init__(self) -> None:
        check_bounds(self, broken=(0, 1), decoded=(0, 1), corrupted=(0, 1))
        weights = ("present", "whole", "nouns", "colours", "side", "background")
        check_bounds(self, **dict.fromkeys(weights, (0, MOST_WEIGHT)))


@dataclass(frozen=True)
class JudgeTraining:
    """A configuration file of ``unmask train judge``."""

    data: DataConfig
    loop: LoopConfig
    model: JudgeSize = JudgeSize()
    loss: JudgeLoss = JudgeLoss()


class JudgeTask:
    """Looking at scenes, seen as a task of the loop."""

    def __init__(self, config: JudgeTraining, tokenizer: Path, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        if config.data.kind != "scenes":
            raise ConfigError("data.kind: a judge learns from scenes, whose truth is known")
        if config.data.scenes.more_colours:
            raise ConfigError("data.scenes.more_colours: a judge knows the other colours; give 0")
        self.tokenizer = load_reduced(tokenizer, device)
        if config.data.scenes.size % self.tokenizer.patch:
            raise ConfigError(
                f"data.scenes.size: {config.data.scenes.size} is no multiple of the tokenizer's "
                f"patch {self.tokenizer.patch}"
            )
        # Transformers learn from objects that are aligned with the tokens: every other batch.
        rasters = (config.data.scenes.snap, self.tokenizer.patch)
        self.sources, self.held_out = (
            [_renderer(config.data, raster, seed) for raster in rasters]
            for seed in (config.loop.seed, HELD_OUT)
        )
        torch.manual_seed(config.loop.seed)
        judge = Judge(
            JudgeConfig(
                nouns=self.sources[0].bank.nouns,
                colours=config.data.scenes.colours,
                backgrounds=config.data.scenes.backgrounds,
                channels=config.model.channels,
                blocks=config.model.blocks,
            )
        )
        self.module: nn.Module = convert_conv2d_weight_memory_format(judge, torch.channels_last)

    def prepare(self, index: int) -> tuple[Tensor, Truth]:
        source = self.sources[index % len(self.sources)]
        return broken_scenes(source, self.config.loop.batch, index, self.config.loss.broken)

    def loss(
        self, module: nn.Module, index: int, prepared: tuple[Tensor, Truth]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weights, (images, truth) = self.config.loss, prepared
        images = self._some_decoded(sent(images, self.device))
        images = images.contiguous(memory_format=torch.channels_last)
        terms = judge_losses(module(images), truth.to(self.device))
        loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return loss, {name: term.detach() for name, term in terms.items()}

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out scenes with broken objects among them; what is whole has a box, green if its
        noun and colours are right."""
        assert isinstance(average, Judge)
        images, truth = broken_scenes(self.held_out[-1], 48, 0, self.config.loss.broken)
        images = self.tokenizer.round_trip(images.to(self.device))
        pictures = images.cpu().clone()
        for row, sight in enumerate(average.look(images)):
            for thing in sight.objects:
                right = is_right(thing, truth, row, average.config)
                _frame(pictures[row], thing, GREEN if right else RED)
        return contact_sheet(pictures, columns=12, enlarge=2)

    def measure(self, average: nn.Module) -> dict[str, float]:
        """Shares that are right on held-out scenes, of renderings and of their round trips."""
        assert isinstance(average, Judge)
        threshold, figures = self._threshold(average), {}
        judge = Judge(replace(average.config, threshold=threshold)).to(self.device).eval()
        judge.load_state_dict(average.state_dict())
        for name, images, truth in self._held_out():
            sights = judge.look(images)
            for figure, value in judge_figures(sights, truth, judge.config).items():
                figures[f"{name}_{figure}"] = value
        return {"threshold": threshold, **figures}

    def save(self, average: nn.Module, folder: Path) -> None:
        assert isinstance(average, Judge)
        save_judge(average, folder, threshold=self._threshold(average))

    def _threshold(self, average: Judge) -> float:
        """Where whole objects that are missed and broken ones that pass are fewest, in decoded
        pictures: the middle of the best thresholds."""
        wholes, truths = [], []
        for index in range(HELD_OUT_SCENES // 128):
            # Not the batches that the figures are measured on.
            source = self.held_out[index % len(self.held_out)]
            images, truth = broken_scenes(source, 128, 1000 + index, 0.5)
            with torch.no_grad():
                maps = average(self.tokenizer.round_trip(images.to(self.device)))
            y, x = centre_cells(truth.boxes, (maps.whole.shape[1], maps.whole.shape[2]))
            rows = torch.arange(len(images)).unsqueeze(1)
            wholes.append(maps.whole.sigmoid().cpu()[rows, y, x][truth.present])
            truths.append(truth.whole[truth.present])
        return best_threshold(torch.cat(wholes), torch.cat(truths))

    def _held_out(self) -> list[tuple[str, Tensor, Truth]]:
        """The held-out scenes, untouched and with broken objects, rendered and decoded."""
        sets = []
        for name, share in (("plain", 0.0), ("broken", 0.5)):
            parts = [
                broken_scenes(self.held_out[index % len(self.held_out)], 128, index, share)
                for index in range(HELD_OUT_SCENES // 128)
            ]
            images = torch.cat([images for images, _ in parts]).to(self.device)
            truths = [truth for _, truth in parts]
            truth = Truth(*(torch.cat(tensors) for tensors in zip(*truths, strict=True)))
            decoded = torch.cat(
                [self.tokenizer.round_trip(part) for part in torch.split(images, 128)]
            )
            sets += [(f"{name}_rendered", images, truth), (f"{name}_decoded", decoded, truth)]
        return sets

    def _some_decoded(self, images: Tensor) -> Tensor:
        """A share of the pictures after the tokenizer's round trip, some tokens corrupted."""
        count = round(len(images) * self.config.loss.decoded)
        if not count:
            return images
        with torch.no_grad():
            tokens = self.tokenizer.encode(images[:count])
            share = self.config.loss.corrupted * (torch.rand(count, 1, 1, device=self.device) < 0.5)
            other = torch.randint_like(tokens, self.tokenizer.codebook_size)
            luck = torch.rand(tokens.shape, device=self.device)
            decoded = self.tokenizer.decode(torch.where(luck < share, other, tokens))
        return torch.cat([decoded.to(images.dtype), images[count:]])


def _renderer(data: DataConfig, snap: int, seed: int) -> SceneRenderer:
    # On a CPU, for objects are broken one by one.
    source = open_source(replace(data, scenes=replace(data.scenes, snap=snap)), seed, "cpu")
    assert isinstance(source, SceneSource)
    return source.renderer


def _frame(picture: Tensor, thing: Found, colour: tuple[float, float, float]) -> None:
    """Draw a frame of one pixel around a thing into a (3, height, width) picture."""
    height, width = picture.shape[1:]
    reach = thing.side / 2
    left, right = (min(max(round(x), 0), width - 1) for x in (thing.x - reach, thing.x + reach))
    top, bottom = (min(max(round(y), 0), height - 1) for y in (thing.y - reach, thing.y + reach))
    line = torch.tensor(colour)[:, None]
    for row in (top, bottom):
        picture[:, row, left : right + 1] = line
    for column in (left, right):
        picture[:, top : bottom + 1, column] = line
