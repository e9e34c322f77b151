from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from unmask import config
from unmask.errors import RequestError
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.results import Result
from unmask.evaluation.settings import CEILING, EvaluationConfig, Setting
from unmask.pipeline import DrawRequest, Pipeline
from unmask.scenes.data import DataConfig
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.truth import SceneConfig

SETTINGS = EvaluationConfig(
    data=DataConfig("scenes", SceneConfig(16, held_out_percent=30)),
    schedulers=("halton", "random"),
    steps=(2,),
    prompts=2,
    held_out_prompts=1,
    images=2,
    batch=5,
)

IMAGES = 6 * 3 * 2  # a setting


def _mean_colours(images: Tensor) -> Tensor:
    """Features that need no package."""
    return images.mean((2, 3))


class _Counting:
    """Remembers the requests of every batch that a pipeline draws."""

    def __init__(self, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[DrawRequest]] = []
        draw = pipeline.draw_batch

        def counted(requests: Sequence[DrawRequest]) -> list[Image.Image]:
            self.batches.append(list(requests))
            return draw(requests)

        monkeypatch.setattr(pipeline, "draw_batch", counted)


@pytest.fixture(name="counting")
def _counting(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> _Counting:
    return _Counting(pipeline, monkeypatch)


def _evaluate(
    pipeline: Pipeline,
    judge: Judge,
    out: Path,
    settings: EvaluationConfig = SETTINGS,
    renderer: SceneRenderer | None = None,
) -> list[Result]:
    return evaluate(pipeline, judge, settings, out, renderer=renderer, features=_mean_colours)


def test_every_setting_leaves_its_figures_and_a_sheet(
    pipeline: Pipeline, judge: Judge, renderer: SceneRenderer, tmp_path: Path
) -> None:
    results = _evaluate(pipeline, judge, tmp_path, renderer=renderer)
    assert [result.name for result in results] == [CEILING, "halton-2", "random-2"]
    for result in results:
        assert config.load(Result, tmp_path / f"{result.name}.json") == result
        assert (tmp_path / f"{result.name}.png").is_file()
        assert [len(record.right) for record in result.records] == [2] * 18
        assert result.frechet is not None
        assert result.diversity is not None
    ceiling, halton, _ = results
    assert ceiling.frechet is not None
    assert halton.frechet is not None
    assert 0 < ceiling.frechet < halton.frechet
    assert (ceiling.passes, ceiling.seconds) == (None, None)
    assert halton.passes == 2
    assert halton.seconds is not None
    assert halton.seconds > 0
    assert halton.inputs.options is not None
    assert halton.inputs.options["scheduler"] == "halton"


def test_without_sprites_or_features_there_are_no_distances(
    pipeline: Pipeline, judge: Judge, tmp_path: Path
) -> None:
    (halton, _) = _evaluate(pipeline, judge, tmp_path / "a")
    assert halton.frechet is None
    assert halton.diversity is not None
    (halton, _) = evaluate(pipeline, judge, SETTINGS, tmp_path / "b")
    assert (halton.frechet, halton.diversity) == (None, None)


def test_each_image_has_the_same_prompt_and_seed_in_every_setting(
    pipeline: Pipeline, judge: Judge, tmp_path: Path, counting: _Counting
) -> None:
    _evaluate(pipeline, judge, tmp_path)
    drawn = [(request.prompt, request.seed) for batch in counting.batches for request in batch]
    assert drawn[:IMAGES] == drawn[IMAGES:]
    assert len({seed for _, seed in drawn}) == IMAGES
    assert {len(batch) for batch in counting.batches} == {5, 1}


def test_a_setting_that_is_done_is_not_drawn_again(
    pipeline: Pipeline, judge: Judge, renderer: SceneRenderer, tmp_path: Path, counting: _Counting
) -> None:
    first = _evaluate(pipeline, judge, tmp_path, renderer=renderer)
    counting.batches.clear()
    assert _evaluate(pipeline, judge, tmp_path, renderer=renderer) == first
    assert counting.batches == []


@pytest.mark.parametrize(
    "change",
    [
        {"images": 1},
        {"seed": 1},
        {"prompts": 3},
        {"precision": "bf16"},
        {"data": replace(SETTINGS.data, scenes=replace(SETTINGS.data.scenes, most=4))},
        {"settings": (Setting("extra", {"scheduler": "random"}),)},
    ],
)
def test_only_what_a_change_concerns_is_drawn_again(
    pipeline: Pipeline,
    judge: Judge,
    tmp_path: Path,
    counting: _Counting,
    change: dict[str, object],
) -> None:
    _evaluate(pipeline, judge, tmp_path)
    counting.batches.clear()
    settings = replace(SETTINGS, **change)  # type: ignore[arg-type]
    _evaluate(pipeline, judge, tmp_path, settings)
    drawn = sum(map(len, counting.batches))
    of_setting = 6 * (settings.prompts + settings.held_out_prompts) * settings.images
    assert drawn == of_setting * (1 if "settings" in change else 2)


def test_other_weights_are_drawn_again(
    pipeline: Pipeline, judge: Judge, tmp_path: Path, counting: _Counting
) -> None:
    _evaluate(pipeline, judge, tmp_path)
    counting.batches.clear()
    next(pipeline.backbone.parameters()).data.add_(1e-3)
    _evaluate(pipeline, judge, tmp_path)
    assert sum(map(len, counting.batches)) == 2 * IMAGES


def test_what_was_measured_without_features_or_sprites_is_not_taken_for_the_whole(
    pipeline: Pipeline, judge: Judge, renderer: SceneRenderer, tmp_path: Path
) -> None:
    evaluate(pipeline, judge, SETTINGS, tmp_path)
    assert _evaluate(pipeline, judge, tmp_path)[0].diversity is not None
    whole = _evaluate(pipeline, judge, tmp_path, renderer=renderer)
    assert whole[1].frechet is not None
    other = SceneRenderer(renderer.bank, replace(renderer.config, snap=4))
    again = _evaluate(pipeline, judge, tmp_path, renderer=other)
    assert again[1].frechet != whole[1].frechet


def test_a_broken_result_is_drawn_again(
    pipeline: Pipeline, judge: Judge, tmp_path: Path, counting: _Counting
) -> None:
    first = _evaluate(pipeline, judge, tmp_path)
    counting.batches.clear()
    (tmp_path / "halton-2.json").write_text('{"name": "halt')
    again = _evaluate(pipeline, judge, tmp_path)
    assert sum(map(len, counting.batches)) == IMAGES
    assert again[0].records == first[0].records


def test_an_option_that_cannot_be_names_its_bounds(
    pipeline: Pipeline, judge: Judge, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="temperature is 99"):
        Setting("hot", {"temperature": 99.0})
    with pytest.raises(RequestError, match=r"option 'temperatur': did you mean 'temperature'"):
        Setting("odd", {"temperatur": 1.0})
    idle = replace(SETTINGS, settings=(Setting("idle", {"scheduler": "halton", "eta": 1.0}),))
    with pytest.raises(RequestError, match="eta does nothing with scheduler 'halton'"):
        _evaluate(pipeline, judge, tmp_path, idle)
