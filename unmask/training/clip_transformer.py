"""Training of the native masked transformer on clips, whose tokens are those of key frames.

Batches of clips of several lengths and of pictures take turns; no batch mixes lengths. A model that
was trained on pictures can be the start: the same weights draw a clip of one frame as they drew
the picture.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unmask.card import ModelCard
from unmask.config import check_bounds, save_json
from unmask.devices import sent
from unmask.errors import ConfigError
from unmask.models.base import Condition
from unmask.models.conditions import TextCondition
from unmask.models.folder import load_native, save_native
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.sampling.backbone import Pair
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.options import plan_options
from unmask.sampling.plan import make_plan
from unmask.scenes.data import DataConfig
from unmask.scenes.moving.captions import clip_captions
from unmask.scenes.moving.truth import CELLS, SLOT, MovingScenes
from unmask.scenes.seeds import HELD_OUT, MASKS, batch_seed
from unmask.scenes.sheets import contact_sheet
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.folder import load_tokenizer, save_tokenizer
from unmask.training.clip_masks import MaskMix, clip_mask, corrupt
from unmask.training.loop import LoopConfig
from unmask.training.moving import check_moving, open_moving
from unmask.training.sources import Composed, SceneSource, open_source
from unmask.training.transformer import (
    MaskedLoss,
    TransformerLoss,
    TransformerSize,
    check_lengths,
    dropped,
    tokens_of,
)

CAPTIONS = 16_384  # that a text tokenizer is learned from


@dataclass(frozen=True)
class ClipTraining:
    """A configuration file of ``unmask train clips``.

    ``slots`` are the lengths of clips, in slots behind the first frame, that batches take in turn;
    0 are pictures. ``loop.batch`` counts the longest clips of a batch; of shorter ones there are
    more, as many tokens. ``hints`` is the share of clips that are told a frame between two key
    frames; 0 makes a model that takes no hints.
    """

    model: TransformerSize
    data: DataConfig
    loop: LoopConfig
    loss: TransformerLoss = field(default_factory=TransformerLoss)
    masks: MaskMix = field(default_factory=MaskMix)
    slots: tuple[int, ...] = (4, 2, 4, 0)
    hints: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, hints=(0, 1))
        if not self.slots or min(self.slots) < 0 or max(self.slots) < 1:
            raise ValueError(f"slots: {list(self.slots)}; give lengths, one of them above 0")
        check_moving(self.data, *(length for length in self.slots if length))
        if self.model.condition != "text":
            raise ValueError(f"model.condition: {self.model.condition!r}; clips have captions")
        if self.model.digits:
            raise ValueError("model.digits: it is not for clips; leave it out")


class ClipBatch(NamedTuple):
    """The tokens (clips, (slots + 1) x cells) of clips, their captions, and their hints (clips,
    (slots + 1) x cells, 2), as a backbone takes them."""

    tokens: Tensor
    captions: list[str]
    hints: Tensor


class ComposedClips(NamedTuple):
    """Clips that are not drawn yet, and one caption each."""

    scenes: MovingScenes
    captions: list[str]


class PreparedClips(NamedTuple):
    """A batch that is not drawn yet; its captions as a condition, and its masks (``clip_mask``)."""

    composed: ComposedClips | Composed
    condition: Condition
    masked: Tensor
    corrupted: Tensor


class ClipSource:
    """Tokens of rendered clips and pictures, with captions."""

    def __init__(self, config: ClipTraining, tokenizer: Tokenizer, seed: int, device: str) -> None:
        self.clips = {
            slots: open_moving(config.data, slots, seed, device)
            for slots in set(config.slots)
            if slots
        }
        pictures = open_source(config.data, seed, device)
        assert isinstance(pictures, SceneSource)
        self.pictures, self.tokenizer = pictures, tokenizer

    def compose(self, slots: int, count: int, index: int) -> ComposedClips | Composed:
        """Batch ``index``, of which nothing is drawn yet."""
        if not slots:
            return self.pictures.compose(count, index)
        renderer = self.clips[slots]
        scenes = renderer.composer.compose(count, index)
        seed = batch_seed(renderer.config.scenes.seed, index)
        return ComposedClips(scenes, clip_captions(scenes, renderer.bank.nouns, seed))

    def batch(self, slots: int, count: int, index: int, hinted: float = 0.0) -> ClipBatch:
        """Batch ``index``, of which so large a share of the clips is hinted."""
        return self.draw(self.compose(slots, count, index), hinted)

    def draw(self, composed: ComposedClips | Composed, hinted: float = 0.0) -> ClipBatch:
        """The tokens of what was composed."""
        if isinstance(composed, Composed):
            images, captions = self.pictures.draw(composed)
            tokens = tokens_of(self.tokenizer, images)
            return ClipBatch(tokens, captions, tokens.new_zeros(*tokens.shape, 2))
        scenes, captions = composed
        slots, count = scenes.slots, len(captions)
        renderer = self.clips[slots]
        frames = renderer.key_frames(scenes)
        tokens = tokens_of(self.tokenizer, frames.flatten(0, 1)).view(count, -1)
        hints = tokens.new_zeros(count, slots + 1, tokens.shape[1] // (slots + 1), 2)
        told = round(hinted * count)  # all by one frame: it is rendered by itself
        if told:
            slot, offset = (int(torch.randint(1, most, ())) for most in (slots + 1, SLOT))
            rows = torch.randperm(count)[:told]
            given = renderer.render(scenes.rows(rows), [SLOT * slot - offset])[:, 0]
            codes = tokens_of(self.tokenizer, given)
            hints[rows, slot] = torch.stack([codes, torch.full_like(codes, offset)], -1)
        return ClipBatch(tokens, captions, hints.flatten(1, 2))


class ClipTask:
    """Guessing masked tokens of clips, seen as a task of the loop.

    ``start`` is the folder of a native picture model whose weights training starts from.
    """

    def __init__(
        self, config: ClipTraining, tokenizer: Path, start: Path | None, device: str, out: Path
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.tokenizer = load_tokenizer(tokenizer, device)
        side, patch = config.data.scenes.size, self.tokenizer.patch
        if side != CELLS * patch:
            raise ConfigError(
                f"data.scenes.size: {side}; clips have {CELLS} tokens a side, {CELLS * patch} px"
            )
        self.source = ClipSource(config, self.tokenizer, config.loop.seed, device)
        self.held_out = ClipSource(config, self.tokenizer, HELD_OUT, device)
        self.longest = max(config.slots)
        self.condition = self._learned(out)
        model = config.model
        native = NativeConfig(
            width=model.width,
            layers=model.layers,
            heads=model.heads,
            hidden=model.hidden,
            grid=(self.longest + 1, side // patch, side // patch),
            codebook_size=self.tokenizer.codebook_size,
            condition="text",
            vocabulary=self.condition.vocabulary,
            condition_length=self.condition.length,
            windows=model.windows,
            hints=SLOT - 1 if config.hints else 0,
        )
        torch.manual_seed(config.loop.seed)
        backbone = NativeTransformer(native)
        if start is not None:
            start_from(backbone, self.condition, start)
        self.module: nn.Module = MaskedLoss(backbone, config.loss)

    def _learned(self, out: Path) -> TextCondition:
        """The text tokenizer: of the run if it is resumed, else learned from captions."""
        length, saved = self.config.model.condition_length, out / "model" / "transformer"
        captions = []
        if 0 in self.config.slots:
            captions = self.source.pictures.compose(CAPTIONS // 4, 0).captions
        for renderer in self.source.clips.values():
            scenes = renderer.composer.compose(CAPTIONS, 0)
            captions = captions + clip_captions(scenes, renderer.bank.nouns, 0)
        if (saved / "text_tokenizer.json").exists():
            kept = TextCondition.load(saved, length).tokenizer
            return TextCondition.of_captions(kept, length, captions)
        condition = TextCondition.learn(captions, self.config.model.vocabulary, length)
        check_lengths(condition, captions)
        return condition

    def prepare(self, index: int) -> PreparedClips:
        slots = self.config.slots[index % len(self.config.slots)]
        composed = self.source.compose(slots, self._count(slots), index)
        seed = batch_seed(self.config.loop.seed, index, MASKS)
        return self._prepared(composed, slots, seed)

    def _prepared(self, composed: ComposedClips | Composed, slots: int, seed: int) -> PreparedClips:
        random = torch.Generator().manual_seed(seed)
        count, grid = len(composed.captions), self._grid(slots)
        masks = clip_mask(count, grid, self.config.masks, random)
        return PreparedClips(composed, self.condition(composed.captions), *masks)

    def loss(
        self, module: nn.Module, index: int, prepared: PreparedClips
    ) -> tuple[Tensor, dict[str, Tensor]]:
        told = dropped(prepared.condition, self.condition, self.config.loss.drop_condition)
        told_some = prepared._replace(condition=told)
        loss, plain = self._guess(module, self.source, told_some, self.config.hints)
        return loss, {"cross_entropy": plain}

    def _guess(
        self, module: nn.Module, source: ClipSource, prepared: PreparedClips, hinted: float
    ) -> tuple[Tensor, Tensor]:
        tokens, _, hints = source.draw(prepared.composed, hinted)
        masked = sent(prepared.masked, self.device)
        shown = corrupt(tokens, ~masked, prepared.corrupted, self.tokenizer.codebook_size)
        told = hints if self.config.hints else None
        result: tuple[Tensor, Tensor] = module(
            tokens, masked, prepared.condition.on(self.device), shown, told
        )
        return result

    def read(self, prompts: list[str]) -> Condition:
        """What a backbone takes of prompts."""
        return self.condition(prompts).on(self.device)

    def _count(self, slots: int) -> int:
        return self.config.loop.batch * (self.longest + 1) // (slots + 1)

    def _grid(self, slots: int) -> tuple[int, int, int]:
        side = self.config.data.scenes.size // self.tokenizer.patch
        return slots + 1, side, side

    def sheet(self, average: nn.Module) -> Image.Image:
        """Held-out captions drawn in 12 steps by the averaged weights; a row of key frames each."""
        assert isinstance(average, MaskedLoss)
        count, grid = 12, self._grid(self.longest)
        captions = self.held_out.batch(self.longest, count, 0).captions
        options = plan_options(steps=12, scheduler="halton", guidance_scale=2.0)
        plans = [make_plan(options, grid, seed=0, image_index=i) for i in range(count)]
        backbone = average.backbone
        with torch.inference_mode():
            prefix = backbone.encode(self.read(captions + [""] * count))
        blank = all_masked(count, backbone.config.tokens, backbone.mask_id, self.device)
        tokens = generate_tokens(backbone, Pair.of(prefix), plans, blank)
        frames = self.tokenizer.decode(tokens.view(-1, *grid[1:]))
        return contact_sheet(frames, columns=2 * grid[0], enlarge=2)

    def measure(self, average: nn.Module) -> dict[str, float]:
        """Cross entropy in nats a masked token on held-out clips of each length, and of what a hint
        tells of (``_hint_figures``)."""
        figures = {}
        for slots in sorted(set(self.config.slots)):
            total, rounds = 0.0, 4
            for index in range(rounds):
                torch.manual_seed(index)
                composed = self.held_out.compose(slots, self._count(slots), index)
                prepared = self._prepared(composed, slots, index)
                with torch.no_grad():
                    total += float(self._guess(average, self.held_out, prepared, 0.0)[1])
            figures[f"cross_entropy_{slots}_slots"] = total / rounds
        return figures | (self._hint_figures(average) if self.config.hints else {})

    @torch.no_grad()
    def _hint_figures(self, average: nn.Module) -> dict[str, float]:
        """Cross entropy of a slot of which a frame is given, with the hint and without, where
        nothing else is known ("blank") and behind a first frame that is ("begun")."""
        assert isinstance(average, MaskedLoss)
        backbone, rounds = average.backbone, 8
        cells = math.prod(self._grid(0))
        figures: dict[str, float] = {}
        for index in range(rounds):
            torch.manual_seed(index)
            count = self._count(self.longest)
            tokens, captions, hints = self.held_out.batch(self.longest, count, index, 1.0)
            slot = hints[..., 1] > 0
            prefix = backbone.encode(self.read(captions))
            for name, known in (("blank", 0), ("begun", cells)):
                shown = torch.full_like(tokens, backbone.mask_id)
                shown[:, :known] = tokens[:, :known]
                for told, given in (("hinted", hints), ("unhinted", None)):
                    logits = backbone(shown, prefix, given)[slot].float()
                    key = f"cross_entropy_{name}_{told}"
                    loss = float(F.cross_entropy(logits, tokens[slot]))
                    figures[key] = figures.get(key, 0.0) + loss / rounds
        return figures

    def save(self, average: nn.Module, folder: Path) -> None:
        """Write a complete model folder."""
        assert isinstance(average, MaskedLoss)
        save_native(average.backbone, self.condition, folder / "transformer")
        save_tokenizer(self.tokenizer, folder / "tokenizer")
        name = folder.resolve().parent.name
        card = ModelCard(name, "Trained by unmask train clips.", scheduler="halton", presets=())
        save_json(card, folder / "model.json")


@torch.no_grad()
def start_from(backbone: NativeTransformer, condition: TextCondition, start: Path) -> None:
    """Give a backbone the weights of the native model at ``start``, of the same size but for its
    frames; text tokens that both know keep their embedding. ConfigError if they differ otherwise.
    """
    found, words = load_native(start / "transformer")
    if not isinstance(words, TextCondition):
        raise ConfigError(f"{start}: reads no text")
    ours, theirs = backbone.state_dict(), found.state_dict()
    embedding, position = "condition_embedding.weight", "condition_position.weight"
    for name, tensor in theirs.items():
        if name in (embedding, position):
            continue
        if name not in ours or ours[name].shape != tensor.shape:
            raise ConfigError(f"{start}: of another size than [model] says: {name}")
        ours[name].copy_(tensor)
    both = min(len(ours[position]), len(theirs[position]))
    ours[position][:both].copy_(theirs[position][:both])
    known = words.tokenizer.get_vocab()
    for word, place in condition.tokenizer.get_vocab().items():
        if word in known:
            ours[embedding][place].copy_(theirs[embedding][known[word]])
