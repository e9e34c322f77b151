"""Named settings of a model, drawn from the same prompts and seeds and judged alike.

Each setting leaves one JSON file, which is reused as long as its inputs are the same; all of them
together give a table and plots (``report.py``).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unmask import __version__
from unmask.evaluation.clips.kind import Clips
from unmask.evaluation.drawing import Drawn, draw_prompts
from unmask.evaluation.kinds import FeaturesOf, Pictures
from unmask.evaluation.results import (
    Inputs,
    Result,
    as_read,
    read_result,
    save_result,
    sprites_hash,
    weights_hash,
)
from unmask.evaluation.settings import CEILING, EvaluationConfig
from unmask.pipeline import Pipeline
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer

_COPIED = (
    "prompts",
    "held_out_prompts",
    "images",
    "batch",
    "seed",
    "precision",
    "frames",
)


def evaluate(
    pipeline: Pipeline,
    judge: Judge,
    settings: EvaluationConfig,
    out: Path,
    *,
    renderer: SceneRenderer | None = None,
    features: FeaturesOf | None = None,
) -> list[Result]:
    """Draw and judge every setting; the results, that of the ceiling first if there is one.

    ``renderer`` has the sprites of the training: without it there is neither a ceiling nor a
    Frechet distance; without ``features`` there are no distances at all. Writes ``out/NAME.json``
    and ``out/NAME.png`` (the first image or clip of some prompts) for each setting, and draws none
    anew whose JSON was made from the same inputs. RequestError tells of an option that cannot be.
    """
    kind = (Pictures if settings.frames is None else Clips)(settings, judge, features)
    overrides = {setting.name: setting.options for setting in settings.all_settings}
    options = {
        name: as_read(
            pipeline.request(
                kind.prompts[0].text, seed=0, frames=settings.frames, **values
            ).options.flat()
        )
        for name, values in overrides.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    truth = wanted = None
    side = settings.data.scenes.size
    size = (side, side) if (side, side) in pipeline.info.sizes else None
    if renderer is not None:
        tokenizer = pipeline.tokenizer_for(size) if size else pipeline.tokenizer
        truth = kind.truth(renderer, tokenizer)
        if features is not None:
            wanted = kind.wanted(renderer, tokenizer)
    inputs = Inputs(
        version=__version__,
        options=None,
        model=weights_hash(pipeline.backbone, pipeline.tokenizer),
        judge=weights_hash(judge, text=repr(judge.config)),
        sprites=None if renderer is None else sprites_hash(renderer),
        features=features is not None,
        held_out_percent=settings.data.scenes.held_out_percent,
        scenes=repr(settings.data.scenes),
        **{name: getattr(settings, name) for name in _COPIED},
    )

    def result(name: str, inputs: Inputs, draw: Callable[[], Drawn]) -> Result:
        path = out / f"{name}.json"
        earlier = read_result(path)
        if earlier is not None and earlier.inputs == inputs:
            return earlier
        drawn = draw()
        verdicts, figures = kind.measured(drawn.pictures, wanted)
        fresh = Result(
            name, inputs, verdicts, passes=drawn.passes, seconds=drawn.seconds, **figures
        )
        kind.sheet(drawn.pictures).save(out / f"{name}.png")
        save_result(fresh, path)
        return fresh

    results = []
    if truth is not None:
        results.append(result(CEILING, inputs, lambda: Drawn(truth)))
    images = len(kind.prompts) * settings.images
    with tqdm(total=len(overrides) * images, unit=kind.unit, dynamic_ncols=True) as bar:
        for done, (name, values) in enumerate(overrides.items()):
            bar.set_description(name)

            def draw(values: dict[str, Any] = values) -> Drawn:
                return draw_prompts(
                    pipeline,
                    kind.prompts,
                    values,
                    seed=settings.seed,
                    images=settings.images,
                    batch=settings.batch,
                    precision=settings.precision,
                    frames=settings.frames,
                    size=size,
                    on_images=bar.update,
                )

            results.append(result(name, replace(inputs, options=options[name]), draw))
            bar.update((done + 1) * images - bar.n)
    return results
