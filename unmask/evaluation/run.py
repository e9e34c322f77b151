"""Starting evaluations and searches from configuration files."""

import dataclasses
from pathlib import Path

from unmask import config
from unmask.box import BUNDLED, available_models
from unmask.errors import ConfigError
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.features import Features
from unmask.evaluation.report import write_report
from unmask.evaluation.reveal import save_reveal
from unmask.evaluation.search import SearchConfig, Trial, search, write_presets
from unmask.evaluation.settings import EvaluationConfig, Precision
from unmask.pipeline import Pipeline
from unmask.scenes.data import open_bank
from unmask.scenes.judge import Judge, load_judge
from unmask.scenes.renderer import SceneRenderer

REVEALED = "a red apple to the left of a blue book on a yellow background"


def run_evaluation(
    model: str,
    path: Path,
    out: Path,
    *,
    data: Path | None = None,
    judge: Path | None = None,
    device: str = "cpu",
) -> str:
    """Evaluate a model as the configuration at ``path`` says; the table in Markdown.

    ``data`` is the sprite archive or bank of the training, without which there is no ceiling and
    no Frechet distance; ``judge`` the folder of a judge, that of the model unless given. ``out``
    gets ``table.md``, plots, ``reveal.gif`` (one picture by each scheduler of the configuration,
    unless it is of clips), and a JSON and a sheet of each setting.
    """
    settings = config.load(EvaluationConfig, path)
    pipeline = _pipeline(model, device, settings.precision)
    loaded_judge = _judge(model, judge, device)
    renderer = None
    if data is not None:
        nouns = settings.data.nouns or loaded_judge.config.nouns
        bank = open_bank(dataclasses.replace(settings.data, path=str(data), nouns=nouns))
        renderer = SceneRenderer(bank, settings.data.scenes, device)
    results = evaluate(
        pipeline, loaded_judge, settings, out, renderer=renderer, features=Features()
    )
    steps = settings.steps[len(settings.steps) // 2] if settings.steps else None
    size = pipeline.info.sizes[-1]  # the smallest: it is enlarged, to show the cells
    requests = [
        pipeline.request(REVEALED, seed=settings.seed, scheduler=scheduler, steps=steps, size=size)
        for scheduler in settings.schedulers
        if settings.frames is None
    ]
    if requests:
        save_reveal(pipeline, requests, out / "reveal.gif")
    return write_report(results, out, settings.baseline)


def run_search(
    model: str,
    path: Path,
    out: Path,
    *,
    judge: Path | None = None,
    write: Path | None = None,
    device: str = "cpu",
) -> tuple[Trial, ...]:
    """Search presets of a model as the configuration at ``path`` says; the best trials.

    ``write`` is a model folder: its ``model.json`` takes them over.
    """
    settings = config.load(SearchConfig, path)
    pipeline = _pipeline(model, device, settings.precision)
    best = search(pipeline, _judge(model, judge, device), settings, out)
    if write is not None:
        write_presets(write / "model.json", [trial.options for trial in best])
    return best


def _pipeline(model: str, device: str, precision: Precision) -> Pipeline:
    """bf16 is left to autocast, which rounds what the tokenizer computes too."""
    return Pipeline.load(model, device, precision="int8" if precision == "int8" else "fp32")


def _judge(model: str, judge: Path | None, device: str) -> Judge:
    folder = BUNDLED / model if model in available_models() else Path(model)
    chosen = folder / "judge" if judge is None else judge
    if not (chosen / "config.json").is_file():
        raise ConfigError(f"{chosen}: holds no judge; train one (unmask train judge) and name it")
    return load_judge(chosen, device)
