"""Named settings of a model, drawn from the same prompts and seeds and judged alike.

Each setting leaves one JSON file, which is reused as long as its inputs are the same; all of them
together give a table and plots (``report.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from unmask import __version__
from unmask.evaluation.drawing import Drawn, draw_prompts, true_pictures
from unmask.evaluation.features import diversity, frechet_distance
from unmask.evaluation.prompts import Prompt, make_prompts
from unmask.evaluation.results import (
    Inputs,
    Result,
    as_read,
    judge_prompts,
    read_result,
    save_result,
    sprites_hash,
    weights_hash,
)
from unmask.evaluation.settings import CEILING, EvaluationConfig
from unmask.pipeline import Pipeline
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sheets import contact_sheet

SHEET_IMAGES = 96
_COPIED = (
    "prompts",
    "held_out_prompts",
    "images",
    "batch",
    "seed",
    "precision",
)


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
    overrides = {setting.name: setting.options for setting in settings.all_settings}
    options = {
        name: as_read(pipeline.request(prompts[0].text, seed=0, **values).options.flat())
        for name, values in overrides.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    truth = wanted = None
    if renderer is not None:
        images = settings.images
        truth = true_pictures(prompts, renderer, pipeline.tokenizer, range(images))
        if features is not None:
            # Of other scenes than the ceiling's, whose distance would be 0 otherwise.
            others = range(images, 2 * images)
            pictures = true_pictures(prompts, renderer, pipeline.tokenizer, others)
            wanted = features(pictures.flatten(0, 1))
    inputs = Inputs(
        version=__version__,
        options=None,
        model=weights_hash(pipeline.backbone, pipeline.tokenizer),
        judge=weights_hash(judge, text=repr(judge.config)),
        sprites=None if renderer is None else sprites_hash(renderer),
        features=features is not None,
        held_out_percent=settings.data.scenes.held_out_percent,
        **{name: getattr(settings, name) for name in _COPIED},
    )

    def result(name: str, inputs: Inputs, draw: Callable[[], Drawn]) -> Result:
        path = out / f"{name}.json"
        earlier = read_result(path)
        if earlier is not None and earlier.inputs == inputs:
            return earlier
        drawn = draw()
        fresh = _measured(name, inputs, prompts, drawn, judge, features, wanted)
        contact_sheet(_some(drawn.pictures), columns=12, enlarge=2).save(out / f"{name}.png")
        save_result(fresh, path)
        return fresh

    results = []
    if truth is not None:
        results.append(result(CEILING, inputs, lambda: Drawn(truth)))
    images = len(prompts) * settings.images
    with tqdm(total=len(overrides) * images, unit="image", dynamic_ncols=True) as bar:
        for done, (name, values) in enumerate(overrides.items()):
            bar.set_description(name)

            def draw(values: dict[str, Any] = values) -> Drawn:
                return draw_prompts(
                    pipeline,
                    prompts,
                    values,
                    seed=settings.seed,
                    images=settings.images,
                    batch=settings.batch,
                    precision=settings.precision,
                    on_images=bar.update,
                )

            results.append(result(name, replace(inputs, options=options[name]), draw))
            bar.update((done + 1) * images - bar.n)
    return results


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


def _some(pictures: Tensor) -> Tensor:
    """The first images of prompts spread evenly over all."""
    chosen = torch.linspace(0, len(pictures) - 1, min(SHEET_IMAGES, len(pictures))).long()
    return pictures[chosen, 0]
