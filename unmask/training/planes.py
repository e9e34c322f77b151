"""Training of a transformer that predicts a second plane of a clip's tokens beside the pixels'.

The second plane is what is where (FUTURIST, arXiv 2501.08303): the segmentation of each key frame,
drawn as a picture in one colour a noun and read by the tokenizer of the pictures. What goes in is
the sum of both planes' embeddings, each masked by itself; each has a head of its own.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unmask.checkpoint import save_weights
from unmask.config import check_bounds, save_json
from unmask.errors import ConfigError
from unmask.models.base import Condition, narrow
from unmask.models.conditions import ConditionEncoder, NoCondition
from unmask.models.folder import load_native
from unmask.models.native import NativeConfig, NativeTransformer, Prefix
from unmask.scenes.data import DataConfig, open_bank
from unmask.scenes.moving.captions import clip_captions
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import CELLS, MovingConfig, MovingScenes
from unmask.scenes.seeds import HELD_OUT, batch_seed
from unmask.scenes.sheets import contact_sheet
from unmask.scenes.sprites import SIDE, SpriteBank
from unmask.scenes.vocabulary import BACKGROUNDS, COLOURS
from unmask.tokenizers.folder import load_tokenizer
from unmask.training.clip_masks import MaskMix, clip_mask
from unmask.training.loop import LoopConfig, Unprepared
from unmask.training.moving import check_moving, open_moving
from unmask.training.transformer import TransformerSize

KNOWN = 2  # slots that a prediction is told: one tells nothing of speed
BATCHES = 8  # that figures are of


@dataclass(frozen=True)
class PlanesTraining:
    """A configuration file of ``unmask train planes``; clips have ``slots`` slots behind the first
    frame. ``second`` is the weight of the second plane's loss, of 1 for both. ``model`` is for a
    training that starts from nothing."""

    data: DataConfig
    loop: LoopConfig
    model: TransformerSize | None = None
    masks: MaskMix = field(default_factory=MaskMix)
    slots: int = 4
    second: float = 0.5

    def __post_init__(self) -> None:
        check_bounds(self, second=(0, 1))
        check_moving(self.data, self.slots)
        if self.slots < KNOWN:
            raise ValueError(f"slots: {self.slots}; behind {KNOWN} known ones one must follow")
        if self.model is not None and self.model.condition != "none":
            raise ValueError(
                f"model.condition: {self.model.condition!r}; from nothing it reads no text: 'none'"
            )


class TwoPlanes(nn.Module):
    """A native transformer with a second embedding, and a second head."""

    def __init__(self, backbone: NativeTransformer) -> None:
        super().__init__()
        size = backbone.config
        self.backbone = backbone
        self.second_embedding = nn.Embedding(size.codebook_size + 1, size.width)
        self.second_head = nn.Linear(size.width, size.codebook_size, bias=False)
        for parameter in (self.second_embedding.weight, self.second_head.weight):
            nn.init.normal_(parameter, std=0.02)

    def forward(
        self, tokens: Tensor, second: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """The logits (clips, tokens, codebook) of both planes, for the ids (clips, tokens) of both,
        ``mask_id`` where masked."""
        backbone = self.backbone
        prefix = narrow(backbone.encode(condition), Prefix)
        places = backbone.places()[: tokens.shape[1]]
        x = backbone.embed(tokens, places + self.second_embedding(second))
        states = backbone.states(x, prefix)[0]
        return backbone.head(states), self.second_head(states)


class ClassRenderer:
    """Tells which noun is where, as classes (0 is none, others are nouns in their order) and as
    pictures in one colour a class."""

    def __init__(self, bank: SpriteBank, config: MovingConfig, device: str) -> None:
        if len(bank.nouns) > len(COLOURS):
            raise ConfigError(
                f"data.nouns: {len(bank.nouns)}; each needs a colour, of which there are "
                f"{len(COLOURS)}"
            )
        colours = list(COLOURS.values())[: len(bank.nouns)]
        self.palette = torch.tensor([BACKGROUNDS["white"], *colours], device=device)
        flat = self.palette.cpu()[1 + bank.noun_of][:, :, None, None].expand(-1, -1, SIDE, SIDE)
        inside = (bank.pixels[:, 3:4] > 127) * 255
        pixels = torch.cat([flat, inside, torch.zeros_like(inside)], 1).to(torch.uint8)
        self._renderer = MovingRenderer(replace(bank, pixels=pixels), config, device)

    def key_frames(self, scenes: MovingScenes) -> Tensor:
        """The true classes (clips, slots + 1, side, side); what is half transparent or more is not
        there."""
        white = list(BACKGROUNDS).index("white")
        still = replace(
            scenes.still,
            background=torch.full_like(scenes.still.background, white),
            colours=torch.full_like(scenes.still.colours, -1),
            painting=torch.zeros_like(scenes.still.painting),
        )
        shown = replace(scenes, still=still, alpha=(scenes.alpha > 0.5).float())
        pictures = self._renderer.key_frames(shown)
        # An edge is a mixture, which may be nearest to the colour of a noun that is not there.
        nouns = F.one_hot(1 + scenes.still.nouns, len(self.palette))  # (clips, objects, classes)
        there = torch.einsum("con,cos->csn", nouns.float(), shown.alpha) > 0
        there[..., 0] = True
        hidden = ~there[:, :, None, None].to(pictures.device)
        return self._distances(pictures).masked_fill(hidden, torch.inf).argmin(-1)

    def draw(self, classes: Tensor) -> Tensor:
        """Pictures (..., 3, height, width) of classes (..., height, width)."""
        return (self.palette / 255)[classes].movedim(-1, -3)

    def read(self, pictures: Tensor) -> Tensor:
        """The classes (..., height, width) of the pictures, by the nearest colour."""
        return self._distances(pictures).argmin(-1)

    def _distances(self, pictures: Tensor) -> Tensor:
        """To the colour of each class, (..., height, width, classes)."""
        pixels = pictures.movedim(-3, -1)
        far = torch.cdist(pixels.flatten(0, -2), self.palette / 255)
        return far.view(*pixels.shape[:-1], -1)


class PlanesBatch(NamedTuple):
    """The tokens (clips, tokens) of both planes of some clips, the true classes (clips, slots + 1,
    side, side), and what the captions say."""

    planes: tuple[Tensor, Tensor]
    classes: Tensor
    condition: Condition


class PlanesTask(Unprepared):
    """Guessing masked tokens of two planes, seen as a task of the loop.

    ``start`` is the folder of a model of clips whose transformer training goes on with, and reads
    the captions.
    """

    def __init__(
        self, config: PlanesTraining, tokenizer: Path, start: Path | None, device: str
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.tokenizer = load_tokenizer(tokenizer, device)
        side = config.data.scenes.size // self.tokenizer.patch
        if side != CELLS:
            raise ConfigError(f"data.scenes.size: {side} tokens a side; clips have {CELLS}")
        self.source, self.held_out = (
            open_moving(config.data, config.slots, seed, device)
            for seed in (config.loop.seed, HELD_OUT)
        )
        moving = MovingConfig(config.data.scenes, config.slots)
        self.classes = ClassRenderer(open_bank(config.data), moving, device)
        self.grid = (config.slots + 1, side, side)
        torch.manual_seed(config.loop.seed)
        backbone, self.condition = self._begun(start)
        self.mask_id = backbone.mask_id
        self.module: nn.Module = TwoPlanes(backbone)

    def _begun(self, start: Path | None) -> tuple[NativeTransformer, ConditionEncoder]:
        size, codes = self.config.model, self.tokenizer.codebook_size
        if (start is None) == (size is None):
            raise ConfigError("model: give either this table, or --start with a model of clips")
        if start is not None:
            found, condition = load_native(start / "transformer")
            if (found.grid, found.codebook_size) != (self.grid, codes):
                raise ConfigError(
                    f"{start}: draws a grid of {found.grid} in {found.codebook_size} codes; this "
                    f"training has {self.grid} and {codes}"
                )
            return found.train().requires_grad_(True), condition
        assert size is not None, "one of them is given"
        config = NativeConfig(
            width=size.width,
            layers=size.layers,
            heads=size.heads,
            hidden=size.hidden,
            grid=self.grid,
            codebook_size=codes,
            condition="none",
            vocabulary=NoCondition().vocabulary,
            condition_length=1,
            windows=size.windows,
        )
        return NativeTransformer(config), NoCondition()

    def loss(
        self, module: nn.Module, index: int, prepared: None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        batch = self._batch(self.source, index)
        planes = batch.planes
        masks = [
            clip_mask(len(plane), self.grid, self.config.masks)[0].to(self.device)
            for plane in planes
        ]
        shown = (
            torch.where(mask, self.mask_id, plane)
            for plane, mask in zip(planes, masks, strict=True)
        )
        logits = module(*shown, batch.condition)
        first, second = (
            F.cross_entropy(guess[mask].float(), plane[mask])
            for guess, plane, mask in zip(logits, planes, masks, strict=True)
        )
        weight = self.config.second
        figures = {"cross_entropy": first.detach(), "second_cross_entropy": second.detach()}
        return (1 - weight) * first + weight * second, figures

    def _batch(self, source: MovingRenderer, index: int) -> PlanesBatch:
        scenes = source.composer.compose(self.config.loop.batch, index)
        classes = self.classes.key_frames(scenes)
        first, second = (
            self.tokenizer.encode(frames.flatten(0, 1)).view(len(classes), -1)
            for frames in (source.key_frames(scenes), self.classes.draw(classes))
        )
        seed = batch_seed(source.config.scenes.seed, index)
        condition = self.condition(clip_captions(scenes, source.bank.nouns, seed))
        return PlanesBatch((first, second), classes, condition.on(self.device))

    @torch.no_grad()
    def _predicted(self, average: nn.Module, batch: PlanesBatch) -> Tensor:
        """The second plane's tokens, (clips, slots, rows, columns), of the slots that follow the
        known ones: in one pass in which all of them are masked in both planes, as FUTURIST does."""
        known = KNOWN * CELLS**2
        hidden = [plane.clone() for plane in batch.planes]
        for plane in hidden:
            plane[:, known:] = self.mask_id
        guess: Tensor = average(*hidden, batch.condition)[1][:, known:].argmax(-1)
        return guess.view(len(guess), -1, CELLS, CELLS)

    def _drawn(self, tokens: Tensor) -> Tensor:
        """Pictures (clips, slots, 3, side, side) of tokens (clips, slots, rows, columns)."""
        pictures = self.tokenizer.decode(tokens.flatten(0, 1))
        return pictures.view(*tokens.shape[:2], *pictures.shape[1:])

    def measure(self, average: nn.Module) -> dict[str, float]:
        """On held-out clips, of the slots behind the known ones: the share of the second plane's
        tokens that are right, and the mean over nouns of intersection over union (mIoU) of the
        predicted segmentation with the rendered truth, in all and by how many slots ahead. Beside
        it what copying the last known frame has, and what the tokenizer makes of the truth."""
        right: dict[str, float] = {}
        counts: dict[str, Tensor] = {}
        for index in range(BATCHES):
            batch = self._batch(self.held_out, index)
            truth = batch.planes[1].view(-1, *self.grid)[:, KNOWN:]
            copied = batch.planes[1].view(-1, *self.grid)[:, KNOWN - 1 : KNOWN].expand_as(truth)
            wanted = batch.classes[:, KNOWN:]
            guesses = {
                "predicted": self._predicted(average, batch),
                "copied": copied,
                "tokenizer": truth,
            }
            for name, tokens in guesses.items():
                found = self.classes.read(self._drawn(tokens))
                overlap = _overlap(found, wanted, len(self.source.bank.nouns))
                counts[name] = counts.get(name, torch.zeros_like(overlap)) + overlap
                share = float((tokens == truth).float().mean())
                right[name] = right.get(name, 0.0) + share / BATCHES
        figures = {f"right_tokens_{name}": right[name] for name in ("predicted", "copied")}
        for name, count in counts.items():
            figures[f"miou_{name}"] = _mean_iou(count.sum(0))
            for ahead, slot in enumerate(count, 1):
                figures[f"miou_{name}_{ahead}_ahead"] = _mean_iou(slot)
        return figures

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out clips, each a row: key frames, their classes, and those predicted."""
        batch = self._batch(self.held_out, 0)
        maps = self.classes.draw(batch.classes)
        guess = self._drawn(self._predicted(average, batch))
        first = self._drawn(batch.planes[0].view(-1, *self.grid))
        rows = torch.cat([first, maps, maps[:, :KNOWN], guess], 1)[:12]
        return contact_sheet(rows.flatten(0, 1), columns=rows.shape[1])

    def save(self, average: nn.Module, folder: Path) -> None:
        """Write the configuration of the backbone, and the weights of both planes."""
        assert isinstance(average, TwoPlanes)
        folder.mkdir(parents=True, exist_ok=True)
        save_json(average.backbone.config, folder / "config.json")
        save_weights(average, folder / "model.safetensors")


def _overlap(found: Tensor, wanted: Tensor, nouns: int) -> Tensor:
    """The pixels of each noun that both classes (clips, slots, height, width) have, and that either
    has: (slots, nouns, 2)."""
    pairs = []
    for noun in range(1, nouns + 1):
        ours, theirs = found == noun, wanted == noun
        pairs.append(
            torch.stack([(both.sum((0, 2, 3))) for both in (ours & theirs, ours | theirs)])
        )
    return torch.stack(pairs).permute(2, 0, 1)


def _mean_iou(counts: Tensor) -> float:
    """The mean over the nouns (nouns, 2) that either has anywhere."""
    met = counts[counts[:, 1] > 0].float()
    return float((met[:, 0] / met[:, 1]).mean()) if len(met) else 0.0
