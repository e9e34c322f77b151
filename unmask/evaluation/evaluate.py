"""Named settings of a model, drawn from the same prompts and seeds and judged alike.

Each setting leaves one JSON file, which is reused as long as its inputs are the same; all of them
together give a table and plots (``report.py``).
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from unmask import __version__, config
from unmask.errors import ConfigError
from unmask.evaluation.features import diversity, frechet_distance
from unmask.evaluation.judge import Judge
from unmask.evaluation.prompts import Prompt, fitting_scenes, make_prompts
from unmask.evaluation.statistics import Interval, score_interval
from unmask.evaluation.verdict import judge_picture
from unmask.pipeline import Pipeline
from unmask.sampling.plan import PlanOptions
from unmask.tokenizers.base import Tokenizer
from unmask.training.data import DataConfig
from unmask.training.judge import round_trip
from unmask.training.scenes import SceneRenderer
from unmask.training.sheets import contact_sheet

Precision = Literal["fp32", "bf16"]

CEILING = "ceiling"
SHEET_IMAGES = 96
_COPIED = (
    "prompts",
    "held_out_prompts",
    "images",
    "batch",
    "seed",
    "precision",
)

# What a setting may override: the fields of PlanOptions, all of them optional.
Overrides = make_dataclass(
    "Overrides",
    [(name, kind | None, None) for name, kind in get_type_hints(PlanOptions).items()],
    frozen=True,
)


@dataclass(frozen=True)
class Setting:
    """A name, and the sampling options that it sets; the model's presets fill the others."""

    name: str
    options: Overrides  # type: ignore[valid-type]

    @classmethod
    def of(cls, name: str, **options: Any) -> "Setting":
        """A setting from keywords, checked as those of a file are."""
        return cls(name, config.from_mapping(Overrides, options, name))

    @property
    def overrides(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in vars(self.options).items() if value is not None}


@dataclass(frozen=True)
class EvaluationConfig:
    """A file of ``configs/eval``: ``schedulers`` times ``steps``, and ``settings`` besides.

    ``data`` tells what the model was trained on: what was held out, and what true scenes look like.
    ``prompts`` and ``held_out_prompts`` are a category, ``images`` a prompt, ``batch`` what is
    drawn together; ``baseline`` names the setting that the others are compared with (the first if
    it is None).
    """

    data: DataConfig
    schedulers: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    settings: tuple[Setting, ...] = ()
    baseline: str | None = None
    prompts: int = 40
    held_out_prompts: int = 20
    images: int = 2
    batch: int = 16
    seed: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name, least in (("prompts", 1), ("held_out_prompts", 0), ("images", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)}; the least is {least}")
        names = [setting.name for setting in self.all_settings]
        if not names:
            raise ValueError("give settings, or schedulers and steps")
        twice = sorted({name for name in names if names.count(name) > 1} | {CEILING} & set(names))
        if twice:
            raise ValueError(f"settings: {', '.join(twice)} is a name that is taken")
        for name in names:
            if not name or not all(each.isalnum() or each in "-_." for each in name):
                raise ValueError(f"settings: {name!r} is no file name; use letters, digits, -_.")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline: no setting {self.baseline!r}; there are {names}")

    @property
    def all_settings(self) -> tuple[Setting, ...]:
        """The grid, named like ``halton-8``, and the settings that are listed."""
        grid = (
            Setting.of(f"{scheduler}-{steps}", scheduler=scheduler, steps=steps)
            for scheduler in self.schedulers
            for steps in self.steps
        )
        return (*grid, *self.settings)


@dataclass(frozen=True)
class Inputs:
    """All that a result depends on; weights and sprites by their hashes."""

    version: str
    options: PlanOptions | None  # None: the ceiling
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


@dataclass(frozen=True)
class Record:
    """The verdicts on the images of a prompt."""

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
    of true scenes, ``diversity`` the mean feature distance between images of a prompt, ``passes``
    those of the backbone an image (guidance included; at most, where a count rule ends early),
    ``seconds`` the time an image, drawn in batches.
    """

    name: str
    inputs: Inputs
    records: tuple[Record, ...]
    frechet: float | None = None
    diversity: float | None = None
    passes: float | None = None
    seconds: float | None = None


class Drawn(NamedTuple):
    """``pictures`` (prompts, images, 3, height, width) in [0, 1]; per image, if they were drawn:
    passes of the backbone, and seconds."""

    pictures: Tensor
    passes: float | None = None
    seconds: float | None = None


def evaluate(
    pipeline: Pipeline,
    judge: Judge,
    settings: EvaluationConfig,
    out: Path,
    *,
    renderer: SceneRenderer | None = None,
    features: Callable[[Tensor], Tensor] | None = None,
) -> list[Result]:
    """Draw and judge every setting; the results, that of the ceiling first if there is one.

    ``renderer`` has the sprites of the training: without it there is neither a ceiling nor a
    Frechet distance; without ``features`` there are no distances at all. Writes ``out/NAME.json``
    and ``out/NAME.png`` (the first image of some prompts) for each setting, and draws none anew
    whose JSON was made from the same inputs. RequestError tells of an option that cannot be.
    """
    prompts = make_prompts(
        judge.config.nouns,
        settings.data.scenes.held_out_percent,
        settings.seed,
        settings.prompts,
        settings.held_out_prompts,
    )
    named = {each.name: each.overrides for each in settings.all_settings}
    options = {
        name: pipeline.request(prompts[0].text, seed=0, **overrides).options
        for name, overrides in named.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    truth = wanted = None
    if renderer is not None:
        truth = _true(prompts, renderer, pipeline.tokenizer, settings, 0)
    if renderer is not None and features is not None:
        # Of other scenes than the ceiling's, whose distance would be 0 otherwise.
        wanted = features(_true(prompts, renderer, pipeline.tokenizer, settings, 1).flatten(0, 1))
    inputs = Inputs(
        version=__version__,
        options=None,
        model=weights_hash(pipeline.backbone, pipeline.tokenizer),
        judge=weights_hash(judge, text=repr(judge.config)),
        sprites=None if renderer is None else _hash_of_sprites(renderer),
        features=features is not None,
        held_out_percent=settings.data.scenes.held_out_percent,
        **{name: getattr(settings, name) for name in _COPIED},
    )

    def result(name: str, own: Inputs, draw: Callable[[], Drawn]) -> Result:
        path = out / f"{name}.json"
        found = _read_result(path)
        if found is not None and found.inputs == own:
            return found
        drawn = draw()
        made = _measured(name, own, prompts, drawn, judge, features, wanted)
        contact_sheet(_some(drawn.pictures), columns=12, enlarge=2).save(out / f"{name}.png")
        partial = path.with_suffix(".partial")
        config.save_json(made, partial)
        os.replace(partial, path)
        return made

    results = []
    if truth is not None:
        results.append(result(CEILING, inputs, lambda: Drawn(truth)))
    images = len(prompts) * settings.images
    with tqdm(total=len(named) * images, unit="image", dynamic_ncols=True) as bar:
        for done, (name, overrides) in enumerate(named.items()):
            bar.set_description(name)

            def draw(overrides: dict[str, Any] = overrides) -> Drawn:
                return draw_prompts(
                    pipeline,
                    prompts,
                    overrides,
                    seed=settings.seed,
                    images=settings.images,
                    batch=settings.batch,
                    precision=settings.precision,
                    on_images=bar.update,
                )

            results.append(result(name, replace(inputs, options=options[name]), draw))
            bar.update((done + 1) * images - bar.n)
    return results


def draw_prompts(
    pipeline: Pipeline,
    prompts: Sequence[Prompt],
    overrides: Mapping[str, Any],
    *,
    seed: int,
    images: int,
    batch: int,
    precision: Precision,
    on_images: Callable[[int], object] | None = None,
) -> Drawn:
    """So many ``images`` of every prompt with these options, drawn in batches; ``on_images`` hears
    how many more are done. Image j of a prompt has the same seed whatever the options."""
    requests = [
        pipeline.request(prompt.text, seed=prompt.image_seed(seed, image), **overrides)
        for prompt in prompts
        for image in range(images)
    ]
    pictures: list[Image.Image] = []
    device, low = next(pipeline.tokenizer.parameters()).device.type, precision == "bf16"
    began = time.perf_counter()
    for first in range(0, len(requests), batch):
        with torch.autocast(device, torch.bfloat16, enabled=low):
            pictures += pipeline.draw_batch(requests[first : first + batch])
        if on_images is not None:
            on_images(len(pictures) - first)
    seconds = (time.perf_counter() - began) / len(requests)
    passes = sum(pipeline.plan(request).passes for request in requests) / len(requests)
    array = np.stack([np.asarray(picture) for picture in pictures])
    pixels = torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255
    pixels = pixels.reshape(len(prompts), images, *pixels.shape[1:])
    return Drawn(pixels, passes, seconds)


def judge_prompts(prompts: Sequence[Prompt], pictures: Tensor, judge: Judge) -> tuple[Record, ...]:
    """The verdicts on (prompts, images, 3, height, width) pictures."""
    sights = iter(judge.look(pictures.flatten(0, 1)))
    records = []
    for prompt in prompts:
        verdicts = [
            judge_picture(prompt, next(sights), judge.config.nouns)
            for _ in range(pictures.shape[1])
        ]
        records.append(
            Record(
                key=prompt.key,
                text=prompt.text,
                category=prompt.category,
                held_out=prompt.held_out,
                right=tuple(verdict.right for verdict in verdicts),
                tags=tuple(verdict.tags for verdict in verdicts),
                background=tuple(verdict.background for verdict in verdicts),
            )
        )
    return tuple(records)


def score(records: Sequence[Record], held_out: bool = False) -> Interval | None:
    """The score of the prompts that training may have met, or of the held-out ones; None if there
    are none."""
    chosen = [record for record in records if record.held_out == held_out]
    if not chosen:
        return None
    return score_interval([each.share for each in chosen], [each.category for each in chosen])


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
    tensors = (tensor for module in modules for tensor in module.state_dict().values())
    return _hash([text.encode(), *(tensor.cpu().numpy().tobytes() for tensor in tensors)])


def _measured(
    name: str,
    inputs: Inputs,
    prompts: Sequence[Prompt],
    drawn: Drawn,
    judge: Judge,
    features: Callable[[Tensor], Tensor] | None,
    wanted: Tensor | None,
) -> Result:
    frechet = spread = None
    if features is not None:
        found = features(drawn.pictures.flatten(0, 1))
        frechet = None if wanted is None else frechet_distance(found, wanted)
        count, images = drawn.pictures.shape[:2]
        spread = diversity(found.reshape(count, images, -1)) if images > 1 else None
    return Result(
        name=name,
        inputs=inputs,
        records=judge_prompts(prompts, drawn.pictures, judge),
        frechet=frechet,
        diversity=spread,
        passes=drawn.passes,
        seconds=drawn.seconds,
    )


def _true(
    prompts: list[Prompt],
    renderer: SceneRenderer,
    tokenizer: Tokenizer,
    settings: EvaluationConfig,
    sample: int,
) -> Tensor:
    """True scenes of every prompt after the tokenizer, (prompts, images, 3, height, width)."""
    indices = range(sample * settings.images, (sample + 1) * settings.images)
    rendered = [renderer.render(fitting_scenes(prompts, renderer, index)) for index in indices]
    with torch.inference_mode():
        decoded = [round_trip(tokenizer, images) for images in rendered]
    return torch.stack(decoded, 1)


def _some(pictures: Tensor) -> Tensor:
    """The first images of prompts spread evenly over all."""
    chosen = torch.linspace(0, len(pictures) - 1, min(SHEET_IMAGES, len(pictures))).long()
    return pictures[chosen, 0]


def _read_result(path: Path) -> Result | None:
    """The result in a file; None if there is none, or one of another version."""
    try:
        return config.load(Result, path)
    except ConfigError:
        return None


def _hash_of_sprites(renderer: SceneRenderer) -> str:
    """Of what true scenes are made from; not of pictures, whose last digits tell of the machine."""
    bank = renderer.bank
    arrays = (bank.pixels, bank.noun_of, bank.luminance)
    told = repr((bank.nouns, renderer.config)).encode()
    return _hash([told, *(array.cpu().numpy().tobytes() for array in arrays)])


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
