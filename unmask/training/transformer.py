"""Training of the native masked transformer on the tokens of a trained tokenizer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from unmask.card import ModelCard
from unmask.config import check_bounds, save_json
from unmask.errors import ConfigError
from unmask.models.base import Condition
from unmask.models.conditions import ConditionEncoder, LabelCondition, NoCondition, TextCondition
from unmask.models.folder import save_native
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.sampling.backbone import Pair
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.options import plan_options
from unmask.sampling.plan import make_plan
from unmask.scenes.data import DataConfig
from unmask.scenes.seeds import HELD_OUT
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.folder import load_tokenizer, save_tokenizer
from unmask.tokenizers.vqgan import VQGAN
from unmask.training.digits import share_digits, without_sharing
from unmask.training.loop import LoopConfig
from unmask.training.sources import Batch, SceneSource, Source, open_source

CAPTION_BATCHES = 20  # of 256, whose words are those that a model was taught


@dataclass(frozen=True)
class TransformerSize:
    """The sizes that the data does not fix.

    With ``digits`` (FSQ and LFQ tokenizers) codes that have a digit in common share a part of their
    embedding and of their row of the head, so that what is learned of one code serves its likes.
    ``windows`` are for clips alone (``NativeConfig``).
    """

    width: int
    layers: int
    heads: int
    hidden: int
    condition: Literal["text", "label", "none"] = "text"
    vocabulary: int = 1024
    condition_length: int = 24
    digits: bool = False
    windows: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        check_bounds(
            self,
            width=(4, 1 << 16),
            layers=(1, 1000),
            heads=(1, 1 << 14),
            hidden=(1, 1 << 18),
            vocabulary=(1, 1 << 20),
            condition_length=(1, 4096),
        )
        if self.width % (4 * self.heads):
            raise ValueError(
                f"heads: {self.heads}; width, {self.width}, must be a multiple of 4 x heads"
            )


@dataclass(frozen=True)
class TransformerLoss:
    """``unmasked`` weighs the loss on tokens that are not masked: 0 is masked tokens only, 1 all
    alike.
    """

    label_smoothing: float = 0.0
    unmasked: float = 0.0
    drop_condition: float = 0.1

    def __post_init__(self) -> None:
        check_bounds(self, label_smoothing=(0, 1), unmasked=(0, 1), drop_condition=(0, 1))


@dataclass(frozen=True)
class TransformerTraining:
    """A configuration file of ``unmask train transformer``."""

    model: TransformerSize
    data: DataConfig
    loop: LoopConfig
    loss: TransformerLoss = TransformerLoss()


class MaskedLoss(nn.Module):
    """The training loss around the backbone, so that compiling covers both."""

    def __init__(self, backbone: NativeTransformer, loss: TransformerLoss) -> None:
        super().__init__()
        self.backbone, self.weights = backbone, loss

    def forward(
        self,
        tokens: Tensor,
        masked: Tensor,
        condition: Condition,
        shown: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the plain cross entropy (nats a masked token) to look at. What
        is not masked is seen as ``shown`` has it, if that is another; ``hints`` are those of
        ``NativeTransformer.forward``."""
        seen_as = tokens if shown is None else shown
        inputs = torch.where(masked, self.backbone.mask_id, seen_as)
        logits = self.backbone(inputs, self.backbone.encode(condition), hints).float()
        log_probabilities = logits.log_softmax(-1)
        plain = -log_probabilities.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        smoothed, smoothing = plain, self.weights.label_smoothing
        if smoothing:
            smoothed = (1 - smoothing) * plain - smoothing * log_probabilities.mean(-1)
        hidden = masked.float()
        weights = hidden + (1 - hidden) * self.weights.unmasked
        seen = (plain.detach() * hidden).sum() / hidden.sum()
        return (smoothed * weights).sum() / weights.sum(), seen


def random_mask(shape: torch.Size, device: torch.device) -> Tensor:
    """A mask (rows, tokens) whose rows hide a share cos(pi u / 2) of the tokens, u uniform, at
    least one.
    """
    rows, tokens = shape
    share = torch.cos(torch.rand(rows, 1, device=device) * math.pi / 2)
    count = (share * tokens).floor().clamp_min(1)
    return torch.rand(rows, tokens, device=device).argsort(1) < count


class MaskedTraining(Protocol):
    """What a task needs of its configuration file."""

    @property
    def loop(self) -> LoopConfig:
        """How long and how fast."""
        ...

    @property
    def loss(self) -> TransformerLoss:
        """What is minimised."""
        ...


class TransformerTask:
    """Guessing masked tokens, seen as a task of the loop. ``sources`` are what is learned from and
    what is held out."""

    def __init__(
        self,
        config: MaskedTraining,
        tokenizer: VQGAN,
        sources: tuple[Source, Source],
        condition: ConditionEncoder,
        backbone: NativeTransformer,
        device: str,
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.tokenizer, self.condition = tokenizer, condition
        self.source, self.held_out = sources
        self.module: nn.Module = MaskedLoss(backbone, config.loss)

    @classmethod
    def of_new(
        cls, config: TransformerTraining, tokenizer: Path, device: str, out: Path
    ) -> "TransformerTask":
        """The task of a new transformer, on the tokens of the tokenizer in a folder."""
        pixels = load_tokenizer(tokenizer, device)
        source = open_source(config.data, config.loop.seed, device)
        condition = _condition(config, source, out)
        side, patch = config.data.scenes.size, pixels.patch
        if side % patch:
            raise ConfigError(
                f"data.scenes.size: {side} is no multiple of the tokenizer's patch {patch}"
            )
        model = NativeConfig(
            width=config.model.width,
            layers=config.model.layers,
            heads=config.model.heads,
            hidden=config.model.hidden,
            grid=(side // patch, side // patch),
            codebook_size=pixels.codebook_size,
            condition=config.model.condition,
            vocabulary=condition.vocabulary,
            condition_length=condition.length,
            windows=config.model.windows,
        )
        torch.manual_seed(config.loop.seed)
        backbone = NativeTransformer(model)
        if config.model.digits:
            codes = torch.arange(pixels.codebook_size, device=device)
            share_digits(backbone, pixels.quantizer.digits(codes).cpu())
        sources = (source, open_source(config.data, HELD_OUT, device))
        return cls(config, pixels, sources, condition, backbone, device)

    def prepare(self, index: int) -> tuple[Any, Condition]:
        composed = self.source.compose(self.config.loop.batch, index)
        return composed, self.condition(composed.captions)

    def loss(
        self, module: nn.Module, index: int, prepared: tuple[Any, Condition]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        composed, told = prepared
        tokens = tokens_of(self.tokenizer, self.source.draw(composed).images)
        condition = dropped(told, self.condition, self.config.loss.drop_condition).on(self.device)
        loss, plain = module(tokens, random_mask(tokens.shape, self.device), condition)
        return loss, {"cross_entropy": plain}

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out captions drawn in 12 steps by the averaged weights; one picture a caption."""
        assert isinstance(average, MaskedLoss)
        captions = self.held_out.batch(48, 0).captions
        options = plan_options(steps=12, scheduler="halton", guidance_scale=3.0)
        grid = average.backbone.config.grid
        plans = [make_plan(options, grid, seed=0, image_index=i) for i in range(48)]
        with torch.inference_mode():
            prefix = average.backbone.encode(self.condition(captions + [""] * 48).on(self.device))
        blank = all_masked(48, math.prod(grid), average.backbone.mask_id, self.device)
        tokens = generate_tokens(average.backbone, Pair.of(prefix), plans, blank)
        return contact_sheet(self.tokenizer.decode(tokens.view(-1, *grid)), columns=12, enlarge=2)

    def measure(self, average: nn.Module) -> dict[str, float]:
        """Cross entropy in nats a masked token: on held-out pictures, and (of scenes, if any are
        held out) on single objects in colours that training never showed them in."""
        rounds, count = 8, self.config.loop.batch
        figures = {
            "cross_entropy": self._cross_entropy(
                average, [self.held_out.batch(count, index) for index in range(rounds)]
            )
        }
        if isinstance(self.held_out, SceneSource):
            unseen = [self.held_out.unseen(count, index) for index in range(rounds)]
            if all(len(batch.captions) for batch in unseen):
                figures["unseen_cross_entropy"] = self._cross_entropy(average, unseen)
        return figures

    @torch.no_grad()
    def _cross_entropy(self, average: nn.Module, batches: list[Batch]) -> float:
        total = 0.0
        for index, batch in enumerate(batches):
            torch.manual_seed(index)
            tokens = tokens_of(self.tokenizer, batch.images)
            condition = self.condition(batch.captions).on(self.device)
            mask = random_mask(tokens.shape, self.device)
            total += float(average(tokens, mask, condition)[1])
        return total / len(batches)

    def save(self, average: nn.Module, folder: Path) -> None:
        """Write a complete model folder, ready to be served."""
        assert isinstance(average, MaskedLoss)
        backbone = without_sharing(average.backbone)
        save_native(backbone, self.condition, folder / "transformer")
        save_tokenizer(self.tokenizer, folder / "tokenizer")
        name, grid = folder.resolve().parent.name, average.backbone.config.grid
        description = f"Trained by unmask train transformer: {grid[0]}x{grid[1]} tokens."
        card = ModelCard(name, description, scheduler="halton", presets=())
        save_json(card, folder / "model.json")


def tokens_of(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    """The tokens (rows, tokens) of pictures, as exact where training is not."""
    with torch.autocast(images.device.type, enabled=False):
        return tokenizer.encode(images).flatten(1)


def dropped(condition: Condition, encoder: ConditionEncoder, share: float) -> Condition:
    """The condition, of which a share of the rows (torch's luck) is that of no prompt."""
    gone, none = torch.rand(len(condition.ids), 1) < share, encoder([""])
    return Condition(
        torch.where(gone, none.ids, condition.ids), torch.where(gone, none.mask, condition.mask)
    )


def _condition(config: TransformerTraining, source: Source, out: Path) -> ConditionEncoder:
    """The condition encoder: read from the run folder when resuming, else learned from the
    captions.
    """
    model = config.model
    if model.condition == "none":
        return NoCondition()
    captions = captions_of(source)
    if model.condition == "label":
        return LabelCondition(sorted(set(captions)))
    saved = out / "model" / "transformer"
    if (saved / "text_tokenizer.json").exists():
        kept = TextCondition.load(saved, model.condition_length)
        # A run that was begun by an older version has no list of words.
        return TextCondition.of_captions(kept.tokenizer, kept.length, captions)
    condition = TextCondition.learn(captions, model.vocabulary, model.condition_length)
    check_lengths(condition, captions)
    return condition


def captions_of(source: Source) -> list[str]:
    """The captions that the words of a model are those of."""
    batches = (source.compose(256, index) for index in range(CAPTION_BATCHES))
    return [caption for batch in batches for caption in batch.captions]


def check_lengths(
    condition: TextCondition, captions: list[str], where: str = "model.condition_length"
) -> None:
    """ConfigError with the longest of the captions, if that is too long for the condition, whose
    length is told ``where``."""
    longest = max(captions, key=lambda text: len(condition.tokenizer.encode(text).ids))
    needed = len(condition.tokenizer.encode(longest).ids) + 1
    if needed > condition.length:
        raise ConfigError(f"{where}: {condition.length}; the caption {longest!r} needs {needed}")
