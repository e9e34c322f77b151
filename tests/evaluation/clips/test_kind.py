from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor

from tests.worlds.clip_models import clip_pipeline
from tests.worlds.native import native_pipeline
from unmask.errors import ConfigError, RequestError
from unmask.evaluation.clips.prompts import CATEGORIES
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.report import table, write_report
from unmask.evaluation.settings import CEILING, EvaluationConfig
from unmask.scenes.data import DataConfig
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig

SCENES = SceneConfig(64, snap=8)
SETTINGS = EvaluationConfig(
    data=DataConfig("scenes", SCENES),
    schedulers=("halton",),
    steps=(1,),
    frames=17,
    prompts=1,
    held_out_prompts=0,
    images=1,
)
RENDERER = SceneRenderer(SpriteBank.of_shapes(), SCENES)


def _mean_colours(images: Tensor) -> Tensor:
    """Features that need no package."""
    return images.mean((2, 3))


def test_clips_are_evaluated_as_pictures_are(judge: Judge, tmp_path: Path) -> None:
    pipeline = clip_pipeline(5, stages=3, side=8, condition_length=96)
    results = evaluate(
        pipeline, judge, SETTINGS, tmp_path, renderer=RENDERER, features=_mean_colours
    )
    assert [result.name for result in results] == [CEILING, "halton-1"]
    for result in results:
        assert [record.category for record in result.records] == list(CATEGORIES)
        assert result.motion_frechet is not None
        assert result.frame_cosine is not None
        assert result.frechet is None
        with Image.open(tmp_path / f"{result.name}.png") as strips:
            assert strips.size == (17 * 66 - 2, len(CATEGORIES) * 66 - 2)
    assert results[1].passes == 1  # a step without guidance
    again = evaluate(pipeline, judge, SETTINGS, tmp_path, renderer=RENDERER, features=_mean_colours)
    assert again == results
    text = write_report(results, tmp_path)
    assert "motion distance" in text
    assert "1 clips a prompt" in text
    several = [replace(each, inputs=replace(each.inputs, images=3)) for each in results]
    assert f"of {3 * len(CATEGORIES)} clips to {len(CATEGORIES)} true ones" in table(several)
    assert "| frozen |" in text
    assert "diversity" not in text


def test_a_model_of_pictures_draws_no_clips(judge: Judge, tmp_path: Path) -> None:
    pictures = native_pipeline(stages=2, condition_length=96)
    with pytest.raises((ConfigError, RequestError), match=r"clips|frames"):
        evaluate(pictures, judge, SETTINGS, tmp_path)


def test_frames_are_whole_slots() -> None:
    for frames in (1, 9, 16):
        with pytest.raises(ValueError, match=f"frames: {frames}; give 1 and whole slots of 4, 13"):
            replace(SETTINGS, frames=frames)
    assert replace(SETTINGS, frames=13).frames == 13
