"""Training of the judge, on scenes that are partly broken on purpose.

A detector that has seen whole objects only finds one in any blob of the right colour. So some
objects are broken: half of them is another object, their parts are shuffled, they are bent or
blurred beyond recognition. Those are something, but not whole. And some are whole, but carry
two colours.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from unmask.errors import ConfigError
from unmask.evaluation.judge import (
    STRIDE,
    TYPICAL_SIDE,
    Judge,
    JudgeConfig,
    Maps,
    Sight,
    save_judge,
)
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.folder import load_tokenizer
from unmask.training.data import DataConfig, SceneSource, open_source
from unmask.training.loop import LoopConfig
from unmask.training.scenes import BACKGROUNDS, COLOURS, SceneRenderer, Scenes
from unmask.training.seeds import batch_seed
from unmask.training.sheets import contact_sheet
from unmask.training.tokenizer import HELD_OUT_SEED

BREAKS = ("halves", "shuffled", "bent", "blurred")
PART = 8  # pixels: objects are shuffled in parts of this side, that of a token
BREAKING = 2  # the stream of seeds that breaks draw from, beside those of ``seeds.py``
# Mean change of the pixels below which nothing is broken: another half of the same look, or the
# parts of a plain square in another order.
VISIBLE = {"halves": 0.04, "shuffled": 0.01, "bent": 0.01, "blurred": 0.01}
HELD_OUT_SCENES = 1024


@dataclass(frozen=True)
class JudgeSize:
    """The sizes that the data does not fix; see ``JudgeConfig``."""

    channels: tuple[int, int, int] = (48, 96, 128)
    blocks: int = 2


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
        for name in ("broken", "decoded", "corrupted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; the bounds are 0 and 1")


@dataclass(frozen=True)
class JudgeTraining:
    """A configuration file of ``unmask train judge``."""

    data: DataConfig
    loop: LoopConfig
    model: JudgeSize = JudgeSize()
    loss: JudgeLoss = JudgeLoss()


class Truth(NamedTuple):
    """What the judge should say of each object of a batch, absent ones with ``present`` false."""

    present: Tensor  # (batch, objects) bool
    whole: Tensor  # (batch, objects) bool
    boxes: Tensor  # (batch, objects, 4) in pixels
    nouns: Tensor  # (batch, objects, nouns): one of 1, or two of 1/2
    colours: Tensor  # (batch, objects, colours): 1 for each that it carries
    coloured: Tensor  # (batch, objects) bool: false for natural colours, which have no name
    background: Tensor  # (batch,)


class JudgeTask:
    """Looking at scenes, seen as a task of the loop."""

    def __init__(self, config: JudgeTraining, tokenizer: Path, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        if config.data.kind != "scenes":
            raise ConfigError("data.kind: a judge learns from scenes, whose truth is known")
        if config.data.scenes.more_colours:
            raise ConfigError("data.scenes.more_colours: a judge knows the first eight; give 0")
        self.tokenizer = load_tokenizer(tokenizer, device)
        if config.data.scenes.size % self.tokenizer.patch:
            raise ConfigError(
                f"data.scenes.size: {config.data.scenes.size} is no multiple of the tokenizer's "
                f"patch {self.tokenizer.patch}"
            )
        # Transformers learn from objects that are aligned with the tokens: every other batch.
        rasters = (config.data.scenes.snap, self.tokenizer.patch)
        self.sources, self.held_out = (
            [_renderer(config.data, raster, seed, device) for raster in rasters]
            for seed in (config.loop.seed, HELD_OUT_SEED)
        )
        torch.manual_seed(config.loop.seed)
        judge = Judge(
            JudgeConfig(
                nouns=self.sources[0].bank.nouns,
                colours=tuple(COLOURS),
                backgrounds=tuple(BACKGROUNDS),
                channels=config.model.channels,
                blocks=config.model.blocks,
            )
        )
        self.module: nn.Module = convert_conv2d_weight_memory_format(judge, torch.channels_last)

    def loss(self, module: nn.Module, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.config.loss
        source = self.sources[index % len(self.sources)]
        images, truth = broken_scenes(source, self.config.loop.batch, index, weights.broken)
        images = self._some_decoded(images).contiguous(memory_format=torch.channels_last)
        terms = judge_losses(module(images), _to(truth, self.device))
        loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return loss, {name: term.detach() for name, term in terms.items()}

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out scenes with broken objects among them; what is whole has a box, green if its
        noun and colours are right."""
        assert isinstance(average, Judge)
        images, truth = broken_scenes(self.held_out[-1], 48, 0, self.config.loss.broken)
        images = round_trip(self.tokenizer, images)
        pictures = images.cpu().clone()
        for row, sight in enumerate(average.look(images)):
            for thing in sight.objects:
                right = any(
                    _right(truth, row, slot, thing.noun, thing.colours, average.config)
                    for slot in truth.present[row].nonzero().flatten().tolist()
                )
                colour = torch.tensor([0.0, 0.8, 0.0] if right else [0.9, 0.0, 0.0])
                _frame(pictures[row], thing.x, thing.y, thing.side, colour)
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
                maps = average(round_trip(self.tokenizer, images))
            y, x = _centre_cells(truth.boxes, maps.whole.shape[-2:])
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
            images = torch.cat([images for images, _ in parts])
            truths = [truth for _, truth in parts]
            truth = Truth(*(torch.cat(each) for each in zip(*truths, strict=True)))
            decoded = torch.cat([round_trip(self.tokenizer, images) for images, _ in parts])
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


def broken_scenes(
    renderer: SceneRenderer, count: int, index: int, share: float
) -> tuple[Tensor, Truth]:
    """Batch ``index`` of pictures in which a ``share`` of the objects was tampered with, and what a
    judge should say of them. It depends on nothing but the renderer's seed, the index, the share.
    """
    scenes = renderer.imagine(count, index)
    random = torch.Generator().manual_seed(batch_seed(renderer.config.seed, index, BREAKING))
    images, size = renderer.render(scenes), renderer.config.size
    boxes = (scenes.boxes * size).round().long()
    other = _others(renderer, scenes, random)
    strange = renderer.render(other)
    present = scenes.nouns >= 0
    whole, nouns = present.clone(), _one_hot(scenes.nouns, len(renderer.bank.nouns))
    colours, coloured = _one_hot(scenes.colours, len(COLOURS)), scenes.colours >= 0
    other_nouns = _one_hot(other.nouns, len(renderer.bank.nouns))
    other_colours = _one_hot(other.colours, len(COLOURS))
    tampered = (torch.rand(present.shape, generator=random) < share) & present
    kinds = torch.randint(len(BREAKS) + 1, present.shape, generator=random)
    for row, slot in tampered.nonzero().tolist():
        left, top, right, bottom = boxes[row, slot].tolist()
        crop = images[row, :, top:bottom, left:right]
        # Halves are twice as frequent: that is how generators fail.
        kind = BREAKS[max(int(kinds[row, slot]) - 1, 0)]
        if kind == "halves":
            mixed = _halves(crop, strange[row, :, top:bottom, left:right], random)
        else:
            mixed = {"shuffled": _shuffled, "bent": _bent, "blurred": _blurred}[kind](crop, random)
        if float((mixed - crop).abs().mean()) < VISIBLE[kind]:
            continue
        images[row, :, top:bottom, left:right] = mixed
        if kind == "halves":
            if int(other.nouns[row, slot]) != int(scenes.nouns[row, slot]):
                whole[row, slot] = False
                nouns[row, slot] = (nouns[row, slot] + other_nouns[row, slot]) / 2
            colours[row, slot] = torch.maximum(colours[row, slot], other_colours[row, slot])
            coloured[row, slot] &= bool(other.colours[row, slot] >= 0)
        else:
            whole[row, slot] = False
    return images, Truth(present, whole, boxes.float(), nouns, colours, coloured, scenes.background)


def judge_losses(maps: Maps, truth: Truth) -> dict[str, Tensor]:
    """The terms of the loss, by the names of their weights in ``JudgeLoss``.

    An object is told by the cells around its centre alike, so that a peak that is off by one still
    tells the truth.
    """
    rows, columns = maps.present.shape[-2:]
    y, x = _centre_cells(truth.boxes, (rows, columns))
    side = (truth.boxes[..., 2] - truth.boxes[..., 0]).clamp_min(1)
    steps = torch.tensor([-1, 0, 1], device=y.device)
    near_y = (y[..., None, None] + steps[:, None]).expand(-1, -1, 3, 3).clamp(0, rows - 1)
    near_x = (x[..., None, None] + steps[None, :]).expand(-1, -1, 3, 3).clamp(0, columns - 1)
    own = torch.arange(len(y), device=y.device).view(-1, 1, 1, 1)
    here = truth.present[..., None, None].float().expand(-1, -1, 3, 3)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum() / weights.sum().clamp_min(1)

    whole = truth.whole.float()[..., None, None].expand_as(here)
    nouns = maps.nouns[own, near_y, near_x].log_softmax(-1)
    wanted = truth.colours[:, :, None, None].expand(-1, -1, 3, 3, -1)
    colours = F.binary_cross_entropy_with_logits(
        maps.colours[own, near_y, near_x], wanted, reduction="none"
    ).sum(-1)
    log_side = (side / TYPICAL_SIDE).log()[..., None, None].expand_as(here)
    return {
        "present": _focal(maps.present, y, x, side, truth.present),
        "whole": mean(
            F.binary_cross_entropy_with_logits(
                maps.whole[own, near_y, near_x], whole, reduction="none"
            ),
            here,
        ),
        "nouns": mean(-(nouns * truth.nouns[:, :, None, None]).sum(-1), here),
        "colours": mean(colours, here * truth.coloured[..., None, None]),
        "side": mean((maps.side[own, near_y, near_x] - log_side).abs(), here),
        "background": F.cross_entropy(maps.background, truth.background),
    }


def judge_figures(sights: list[Sight], truth: Truth, config: JudgeConfig) -> dict[str, float]:
    """Shares that are right: ``found`` of the whole objects, ``noun`` and ``colour`` of those
    found, ``count`` and ``background`` of the pictures, ``passed`` of the broken objects (smaller
    is better), ``extra`` found where there is none, a picture; ``two_colours`` of the objects that
    carry two."""
    tally: dict[str, list[bool]] = {
        name: []
        for name in ("found", "noun", "colour", "two_colours", "passed", "count", "background")
    }
    extra = 0
    for row, sight in enumerate(sights):
        tally["count"].append(len(sight.objects) == int(truth.whole[row].sum()))
        tally["background"].append(
            sight.background == config.backgrounds[int(truth.background[row])]
        )
        free = list(sight.objects)
        for slot in truth.present[row].nonzero().flatten().tolist():
            left, top, right, bottom = truth.boxes[row, slot].tolist()
            reach = (right - left) / 4
            near = [
                thing
                for thing in free
                if max(abs(thing.x - (left + right) / 2), abs(thing.y - (top + bottom) / 2)) < reach
            ]
            if near:
                free.remove(near[0])
            if not truth.whole[row, slot]:
                tally["passed"].append(bool(near))
                continue
            tally["found"].append(bool(near))
            if near:
                noun = int(truth.nouns[row, slot].argmax())
                tally["noun"].append(near[0].noun == config.nouns[noun])
                if truth.coloured[row, slot]:
                    wanted = _colours_of(truth, row, slot, config)
                    name = "colour" if len(wanted) == 1 else "two_colours"
                    tally[name].append(set(near[0].colours) == wanted)
        extra += len(free)
    shares = {name: sum(each) / len(each) for name, each in tally.items() if each}
    return {**shares, "extra": extra / len(sights)}


def best_threshold(probabilities: Tensor, whole: Tensor) -> float:
    """The threshold that keeps the most of the whole and refuses the most of the broken, each
    counted as a share; of several alike the middle."""
    candidates = torch.arange(1, 100) / 100
    kept = probabilities.unsqueeze(1) >= candidates
    wrong = (~kept[whole]).float().mean(0) + kept[~whole].float().mean(0)
    best = (wrong <= wrong.min() + 1e-6).nonzero().flatten()
    return round(float(candidates[best[len(best) // 2]]), 2)


def round_trip(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """The pictures after the tokenizer: the best that a model can draw with its tokens."""
    return tokenizer.decode(tokenizer.encode(images))


def _renderer(data: DataConfig, snap: int, seed: int, device: str) -> SceneRenderer:
    source = open_source(replace(data, scenes=replace(data.scenes, snap=snap)), seed, device)
    assert isinstance(source, SceneSource)
    return source.renderer


def _others(renderer: SceneRenderer, scenes: Scenes, random: torch.Generator) -> Scenes:
    """The same boxes and background, filled with what halves are taken from: another noun in the
    same or another colour, or (one in three) the same noun in another colour."""
    shape, nouns = scenes.nouns.shape, len(renderer.bank.nouns)
    shift = torch.randint(1, max(nouns, 2), shape, generator=random)
    same_noun = torch.rand(shape, generator=random) < 1 / 3
    other = torch.where(same_noun, scenes.nouns, (scenes.nouns + shift) % nouns)
    turn = torch.randint(1, len(COLOURS), shape, generator=random)
    same_colour = (torch.rand(shape, generator=random) < 0.5) & ~same_noun
    # A natural colour (-1) becomes a named one where it changes.
    colours = torch.where(same_colour, scenes.colours, (scenes.colours + turn) % len(COLOURS))
    sprites = torch.stack(
        [
            renderer.sprites_of[noun][int(torch.randint(2**31, (1,), generator=random)) % many]
            for noun in other.flatten().tolist()
            for many in [len(renderer.sprites_of[noun])]
        ]
    ).view(shape)
    sprites = torch.where(same_noun, scenes.sprites, sprites)
    present = scenes.nouns >= 0
    return replace(
        scenes,
        sprites=torch.where(present, sprites, -1),
        nouns=torch.where(present, other, -1),
        colours=torch.where(present, colours, -1),
    )


def _halves(crop: Tensor, other: Tensor, random: torch.Generator) -> Tensor:
    """The crop with its left, right, upper or lower half (40 to 60 %) from the other."""
    which, cut = torch.rand(2, generator=random).tolist()
    axis = 1 if which < 0.5 else 2
    length = crop.shape[axis]
    edge = round(length * (0.4 + 0.2 * cut))
    first = torch.arange(length, device=crop.device) < edge
    taken = first if which % 0.5 < 0.25 else ~first
    return torch.where(taken[:, None] if axis == 1 else taken, other, crop)


def _shuffled(crop: Tensor, random: torch.Generator) -> Tensor:
    """The crop with its parts of 8x8 pixels (or quarters) in another order, none where it was."""
    mixed, side = crop.clone(), min(PART, crop.shape[1] // 2)
    rows, columns = crop.shape[1] // side, crop.shape[2] // side
    places = [(y * side, x * side) for y in range(rows) for x in range(columns)]
    order = torch.randperm(len(places), generator=random).tolist()
    for target, source in zip(order, order[1:] + order[:1], strict=True):
        (y, x), (from_y, from_x) = places[target], places[source]
        part = crop[:, from_y : from_y + side, from_x : from_x + side]
        mixed[:, y : y + side, x : x + side] = part
    return mixed


def _bent(crop: Tensor, random: torch.Generator) -> Tensor:
    """The crop bent by up to half of its side, in waves of a third of it."""
    waves = torch.randn(1, 2, 4, 4, generator=random) * 0.4
    moved = F.interpolate(waves, crop.shape[1:], mode="bicubic", align_corners=True)
    axes = [torch.linspace(-1, 1, length) for length in crop.shape[1:]]
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = (torch.stack([x, y], -1) + moved[0].permute(1, 2, 0)).unsqueeze(0).to(crop.device)
    return F.grid_sample(
        crop.unsqueeze(0), grid, padding_mode="border", align_corners=True
    ).squeeze(0)


def _blurred(crop: Tensor, random: torch.Generator) -> Tensor:
    """The crop as a blob: three or four colours a side, smoothly joined."""
    coarse = 3 + int(torch.randint(2, (1,), generator=random))
    small = F.adaptive_avg_pool2d(crop.unsqueeze(0), coarse)
    return F.interpolate(small, crop.shape[1:], mode="bilinear").squeeze(0)


def _one_hot(values: Tensor, count: int) -> Tensor:
    """(..., count) of 0 and 1; all 0 where the value is -1."""
    return F.one_hot(values.clamp_min(0), count).float() * (values >= 0).unsqueeze(-1)


def _centre_cells(boxes: Tensor, shape: tuple[int, int] | torch.Size) -> tuple[Tensor, Tensor]:
    """The cells (rows, columns) in which the centres of boxes in pixels lie."""
    y = ((boxes[..., 1] + boxes[..., 3]) / 2 / STRIDE).long().clamp(0, shape[0] - 1)
    x = ((boxes[..., 0] + boxes[..., 2]) / 2 / STRIDE).long().clamp(0, shape[1] - 1)
    return y, x


def _focal(logits: Tensor, y: Tensor, x: Tensor, side: Tensor, present: Tensor) -> Tensor:
    """The focal loss of centres (CenterNet, arXiv 1904.07850), an object."""
    rows, columns = logits.shape[-2:]
    down = torch.arange(rows, device=y.device) - y.unsqueeze(-1)
    across = torch.arange(columns, device=y.device) - x.unsqueeze(-1)
    distance = down.square().unsqueeze(-1) + across.square().unsqueeze(-2)
    spread = (side / STRIDE / 6).clamp_min(0.7)[..., None, None]
    bumps = (-distance / (2 * spread.square())).exp() * present[..., None, None]
    heat = bumps.amax(1)
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    likely = logits.sigmoid()
    centre = heat == 1
    each = torch.where(
        centre, -yes * (1 - likely).square(), -no * likely.square() * (1 - heat) ** 4
    )
    return each.sum() / present.sum().clamp_min(1)


def _to(truth: Truth, device: torch.device) -> Truth:
    return Truth(*(tensor.to(device) for tensor in truth))


def _colours_of(truth: Truth, row: int, slot: int, config: JudgeConfig) -> set[str]:
    return {config.colours[i] for i in truth.colours[row, slot].nonzero().flatten().tolist()}


def _right(
    truth: Truth, row: int, slot: int, noun: str, colours: tuple[str, ...], config: JudgeConfig
) -> bool:
    """Whether a noun and colours are those of a whole object."""
    return (
        bool(truth.whole[row, slot])
        and noun == config.nouns[int(truth.nouns[row, slot].argmax())]
        and (not truth.coloured[row, slot] or set(colours) == _colours_of(truth, row, slot, config))
    )


def _frame(picture: Tensor, x: float, y: float, side: float, colour: Tensor) -> None:
    """Draw a frame of one pixel into a (3, height, width) picture."""
    height, width = picture.shape[1:]
    left, right = (min(max(round(x + part * side / 2), 0), width - 1) for part in (-1, 1))
    top, bottom = (min(max(round(y + part * side / 2), 0), height - 1) for part in (-1, 1))
    for row in (top, bottom):
        picture[:, row, left : right + 1] = colour[:, None]
    for column in (left, right):
        picture[:, top : bottom + 1, column] = colour[:, None]
