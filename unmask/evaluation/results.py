"""What settings are worth: the verdicts on their pictures, and the scores of those."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from unmask import config
from unmask.errors import ConfigError
from unmask.evaluation.prompts import Asked, Prompt
from unmask.evaluation.statistics import Interval, score_interval
from unmask.evaluation.verdict import Verdict, judge_picture
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer


@dataclass(frozen=True)
class Inputs:
    """All that a result depends on; weights and sprites by their hashes."""

    version: str
    options: dict[str, object] | None  # as they are read back; None: the ceiling
    model: str
    judge: str
    sprites: str | None
    features: bool
    prompts: int
    held_out_prompts: int
    images: int
    batch: int
    seed: int
    held_out_percent: int
    precision: str
    frames: int | None = None
    scenes: str = ""  # that prompts are about, and how large they are


@dataclass(frozen=True)
class Record:
    """The verdicts on the images, or clips, of a prompt."""

    key: str
    text: str
    category: str
    held_out: bool
    right: tuple[bool, ...]
    tags: tuple[tuple[str, ...], ...]
    background: tuple[bool | None, ...]

    @property
    def share(self) -> float:
        """The share of the images that are right."""
        return sum(self.right) / len(self.right)


@dataclass(frozen=True)
class Result:
    """What a setting is worth; None is what was not measured.

    ``frechet`` is the Frechet distance on EfficientNet-lite0 features to what the tokenizer makes
    of true scenes, ``motion_frechet`` that on motion features (``clips.measures``), ``diversity``
    the mean feature distance between images of a prompt, ``passes``
    those of the backbone an image (guidance included; at most, where a count rule ends early),
    ``seconds`` the time an image, drawn in batches; ``flicker`` the share of pixels that change
    where nothing moves, ``frame_cosine`` how alike neighbouring frames are in features.
    """

    name: str
    inputs: Inputs
    records: tuple[Record, ...]
    frechet: float | None = None
    diversity: float | None = None
    passes: float | None = None
    seconds: float | None = None
    motion_frechet: float | None = None
    flicker: float | None = None
    frame_cosine: float | None = None


def as_read(options: dict[str, object]) -> dict[str, object]:
    """Options as JSON gives them back: lists where there were tuples."""
    read: dict[str, object] = json.loads(json.dumps(options))
    return read


def judge_prompts(prompts: Sequence[Prompt], pictures: Tensor, judge: Judge) -> tuple[Record, ...]:
    """The verdicts on (prompts, images, 3, height, width) pictures."""
    sights = iter(judge.look(pictures.flatten(0, 1)))
    return records(
        prompts,
        [
            [
                judge_picture(prompt, next(sights), judge.config.nouns)
                for _ in range(pictures.shape[1])
            ]
            for prompt in prompts
        ],
    )


def records(prompts: Sequence[Asked], verdicts: Sequence[Sequence[Verdict]]) -> tuple[Record, ...]:
    """What is kept of the verdicts on the images of each prompt."""
    return tuple(
        Record(
            key=prompt.key,
            text=prompt.text,
            category=prompt.category,
            held_out=prompt.held_out,
            right=tuple(verdict.right for verdict in on_images),
            tags=tuple(verdict.tags for verdict in on_images),
            background=tuple(verdict.background for verdict in on_images),
        )
        for prompt, on_images in zip(prompts, verdicts, strict=True)
    )


def score(records: Sequence[Record], held_out: bool = False) -> Interval | None:
    """The score of the prompts that training may have met, or of the held-out ones; None if there
    are none."""
    chosen = [record for record in records if record.held_out == held_out]
    if not chosen:
        return None
    return score_interval(
        [record.share for record in chosen], [record.category for record in chosen]
    )


def difference(ours: Sequence[Record], theirs: Sequence[Record]) -> Interval:
    """The score of ours minus that of theirs, prompt by prompt; ValueError unless both answer the
    same prompts."""
    pairs = list(zip(ours, theirs, strict=True))
    if any((a.key, a.text) != (b.key, b.text) for a, b in pairs):
        raise ValueError("results on other prompts cannot be compared in pairs")
    seen = [(a.share - b.share, a.category) for a, b in pairs if not a.held_out]
    return score_interval([gap for gap, _ in seen], [category for _, category in seen])


def weights_hash(*modules: nn.Module, text: str = "") -> str:
    """A hash of the weights of modules, and of a text."""
    tensors = (
        tensor.to_dense() if tensor.is_mkldnn else tensor
        for module in modules
        for tensor in module.state_dict().values()
    )
    return _hash([text.encode(), *(tensor.cpu().numpy().tobytes() for tensor in tensors)])


def sprites_hash(renderer: SceneRenderer) -> str:
    """A hash of what true scenes are made from; not of pictures, whose last digits tell of the
    machine."""
    bank = renderer.bank
    arrays = (bank.pixels, bank.noun_of, bank.luminance)
    told = repr((bank.nouns, renderer.config)).encode()
    return _hash([told, *(array.cpu().numpy().tobytes() for array in arrays)])


def read_result(path: Path) -> Result | None:
    """The result in a file; None if there is none, or one of another version."""
    try:
        return config.load(Result, path)
    except ConfigError:
        return None


def save_result(result: Result, path: Path) -> None:
    """Write a result; a file that is there is replaced whole."""
    partial = path.with_suffix(".partial")
    config.save_json(result, partial)
    os.replace(partial, path)


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
