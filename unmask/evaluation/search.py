"""Presets by trial: which temperatures, guidance and mask schedule suit a scheduler at a number of
steps.

Successive halving: all candidates draw a few prompts, the best of them more, with the same seeds.
The prompts are of another seed than those of evaluations.
"""

import itertools
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unmask import config
from unmask.card import ModelCard
from unmask.errors import ConfigError
from unmask.evaluation.drawing import draw_prompts
from unmask.evaluation.prompts import CATEGORIES, Prompt, make_prompts
from unmask.evaluation.results import judge_prompts, weights_hash
from unmask.evaluation.settings import Precision
from unmask.pipeline import Pipeline
from unmask.sampling.options import choose_options
from unmask.scenes.judge import Judge

Options = dict[str, object]  # by their public names

SEARCHED = ("temperature", "choice_temperature", "guidance_scale", "mask_schedule")


@dataclass(frozen=True)
class SearchConfig:
    """A configuration file of the search.

    ``candidates`` are drawn from all combinations, and the preset of today is one more;
    ``prompts`` are a category, one number a round, after each of which the best ``kept`` go on.
    With ``unseen`` every other prompt is one that training cannot have met: what suits those that
    it has met only, such as little guidance, may fail at all others.
    """

    schedulers: tuple[str, ...]
    steps: tuple[int, ...] = (4, 8, 12, 16, 32)
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    choice_temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    guidance_scales: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0)
    mask_schedules: tuple[str, ...] = ("arccos", "cosine", "linear", "power")
    candidates: int = 24
    prompts: tuple[int, ...] = (3, 8, 24)
    kept: float = 0.34
    images: int = 1
    batch: int = 16
    seed: int = 1
    unseen: bool = False
    held_out_percent: int = 8
    precision: Precision = "bf16"

    def __post_init__(self) -> None:
        for name in ("schedulers", "steps", "prompts", *(f"{name}s" for name in SEARCHED)):
            if not getattr(self, name):
                raise ValueError(f"{name}: give one or more")
        if min(self.prompts) < 1 or list(self.prompts) != sorted(set(self.prompts)):
            raise ValueError(f"prompts: {list(self.prompts)}; expected rising numbers from 1")
        for name in ("candidates", "images", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}; the least is 1")
        if not 0 < self.kept < 1:
            raise ValueError(f"kept: {self.kept}; the bounds are 0 and 1, both excluded")


@dataclass(frozen=True)
class Trial:
    """A candidate and the share of right images of each prompt that it has drawn."""

    options: Options
    shares: tuple[float, ...]

    @property
    def score(self) -> float:
        """The mean over prompts; categories have as many each."""
        return sum(self.shares) / len(self.shares)


@dataclass
class Journal:
    """What was tried already, in a file with a line a trial; the first line tells of what."""

    path: Path
    inputs: str
    trials: dict[str, Trial] = field(default_factory=dict)  # by ``_key`` of their options

    @classmethod
    def open(cls, path: Path, inputs: str) -> "Journal":
        """Read or begin a journal; ConfigError if it belongs to other inputs."""
        journal = cls(path, inputs)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"inputs": inputs}) + "\n", encoding="utf-8")
            return journal
        lines = path.read_text(encoding="utf-8").splitlines()
        # A search that is killed while it writes leaves a broken last line.
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        if not rows or rows[0] != {"inputs": inputs}:
            raise ConfigError(f"{path}: of another search; choose another folder")
        for row in rows[1:]:
            trial = config.from_mapping(Trial, row, str(path))
            journal.trials[_key(trial.options)] = trial
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return journal

    def add(self, trial: Trial) -> None:
        """Keep a trial; a later one of the same options takes its place."""
        self.trials[_key(trial.options)] = trial
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial)) + "\n")


def search(
    pipeline: Pipeline, judge: Judge, settings: SearchConfig, out: Path
) -> tuple[Trial, ...]:
    """The best trial for each scheduler and number of steps; ``out/trials.jsonl`` keeps what was
    tried, so that a search that was stopped goes on."""
    prompts = searched_prompts(judge.config.nouns, settings)
    told = (
        settings.seed,
        settings.unseen,
        settings.held_out_percent,
        settings.images,
        settings.batch,
        settings.precision,
    )
    inputs = weights_hash(pipeline.backbone, pipeline.tokenizer, judge, text=repr(told))
    journal = Journal.open(out / "trials.jsonl", inputs)
    best = []
    pairs = list(itertools.product(settings.schedulers, settings.steps))
    with tqdm(total=len(pairs), unit="preset", dynamic_ncols=True) as bar:
        for scheduler, steps in pairs:
            bar.set_description(f"{scheduler}-{steps}")
            request = pipeline.request(prompts[0].text, scheduler=scheduler, steps=steps)
            preset = request.options.flat()

            def tried(options: Options, count: int) -> Trial:
                return _tried(pipeline, judge, settings, prompts[:count], options, journal)

            best.append(halve(candidates(settings, preset), settings, tried))
            bar.update()
    return tuple(best)


def searched_prompts(nouns: tuple[str, ...], settings: SearchConfig) -> list[Prompt]:
    """All prompts of a search. A round's are the first ones, as many of each category."""
    count = math.ceil(settings.prompts[-1] / (1 + settings.unseen))  # a category
    percent, seed = settings.held_out_percent, settings.seed
    prompts = make_prompts(nouns, percent, seed, count, count * settings.unseen)
    seen, unseen = prompts[: count * len(CATEGORIES)], prompts[count * len(CATEGORIES) :]
    return [
        prompt
        for number in range(count)
        for kind in (seen, unseen)
        for prompt in kind[number::count]
    ]


def candidates(settings: SearchConfig, preset: Options) -> list[Options]:
    """The preset of today, and other values of what is searched; which ones depends on the seed,
    the scheduler and the steps alone."""
    values: dict[str, Sequence[Any]] = {
        "temperature": settings.temperatures,
        "guidance_scale": settings.guidance_scales,
        "mask_schedule": settings.mask_schedules,
    }
    if "choice_temperature" in preset:
        values["choice_temperature"] = settings.choice_temperatures
    products: list[dict[str, Any]] = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
    rng = random.Random(f"{settings.seed}/{preset['scheduler']}/{preset['steps']}")
    rng.shuffle(products)
    others = (choose_options({}, {**preset, **product}).flat() for product in products)
    return [preset, *(other for other in others if other != preset)][: settings.candidates + 1]


def halve(
    options: list[Options],
    settings: SearchConfig,
    tried: Callable[[Options, int], Trial],
) -> Trial:
    """The best of the candidates: ``tried`` draws so many prompts with one; of those that score
    alike the first."""
    for count in settings.prompts:
        trials = [tried(candidate, count * len(CATEGORIES)) for candidate in options]
        trials.sort(key=lambda trial: -trial.score)
        options = [trial.options for trial in trials[: math.ceil(settings.kept * len(trials))]]
    return trials[0]


def write_presets(path: Path, presets: Sequence[Options]) -> None:
    """Put presets into a ``model.json``, in place of those of the same scheduler and steps.

    Only what differs from the plain defaults is written. ConfigError if it is no model card.
    """
    config.load(ModelCard, path)
    card = json.loads(path.read_text(encoding="utf-8"))
    kept = {_place(row): row for row in card["presets"]}
    kept |= {_place(preset): _short(preset) for preset in presets}
    card["presets"] = [kept[place] for place in sorted(kept)]
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _tried(
    pipeline: Pipeline,
    judge: Judge,
    settings: SearchConfig,
    prompts: Sequence[Prompt],
    options: Options,
    journal: Journal,
) -> Trial:
    """The trial of these options with these prompts; those of an earlier round are not drawn
    again."""
    before = journal.trials.get(_key(options), Trial(options, ()))
    if len(before.shares) < len(prompts):
        fresh = prompts[len(before.shares) :]
        drawn = draw_prompts(
            pipeline,
            fresh,
            options,
            seed=settings.seed,
            images=settings.images,
            batch=settings.batch,
            precision=settings.precision,
        )
        records = judge_prompts(fresh, drawn.pictures, judge)
        journal.add(Trial(options, before.shares + tuple(record.share for record in records)))
    return Trial(options, journal.trials[_key(options)].shares[: len(prompts)])


def _key(options: Options) -> str:
    return json.dumps(options, sort_keys=True)


def _place(options: Options) -> tuple[str, int]:
    """What a preset is for: its scheduler and number of steps."""
    chosen = choose_options({}, options)
    return chosen.scheduler.name, chosen.steps


def _short(options: Options) -> Options:
    """What differs from the defaults, and always what was searched."""
    always = {"scheduler", "steps", *SEARCHED}
    plain = choose_options({}, {name: options[name] for name in ("scheduler", "steps")}).flat()
    return {
        name: value for name, value in options.items() if name in always or value != plain.get(name)
    }
