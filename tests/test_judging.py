"""The judge of the bundled model, on pictures that it draws."""

import json
import shutil
from pathlib import Path

import pytest

from tests.worlds.native import PROMPT, write_native
from unmask.box import BUNDLED
from unmask.errors import ConfigError, RequestError
from unmask.pipeline import Pipeline
from unmask.pipeline.judging import PictureJudge


@pytest.fixture(name="pipeline", scope="module")
def _pipeline() -> Pipeline:
    return Pipeline.load("storybook")


def test_a_picture_is_right_for_its_prompt_and_wrong_for_another(pipeline: Pipeline) -> None:
    images = pipeline.generate("two red apples on a blue background", seed=7, n=2).images
    asked = pipeline.judge("two red apples on a blue background", images)
    assert [verdict.right for verdict in asked] == [True, True]
    assert [found.noun for found in asked[0].objects] == ["apple", "apple"]
    other = pipeline.judge("three green apples on a white background", images)
    assert [verdict.right for verdict in other] == [False, False]
    assert other[0].faults == ("count", "colours", "background")
    assert pipeline.judge("two red apples on a blue background", images[1:]) == asked[1:]


def test_a_prompt_that_no_judge_reads_has_no_verdict_but_what_is_seen(pipeline: Pipeline) -> None:
    images = pipeline.generate("an apple on the left", seed=7).images
    [verdict] = pipeline.judge("an apple on the left", images)
    assert (verdict.right, verdict.faults) == (None, ())
    assert "on the left" in (verdict.reason or "")
    assert verdict.objects[0].noun == "apple"


def test_a_judge_sees_what_stands_in_a_picture_of_any_size(pipeline: Pipeline) -> None:
    [image] = pipeline.generate("two red apples on a blue background", seed=7).images
    judge = PictureJudge.of(BUNDLED / "storybook")
    assert judge is not None
    asked = ["two red apples on a white background", "a red apple", "a green tree", "on the left"]
    seen, objects = judge.sees(asked, image.crop((0, 0, 127, 121)), times=2)
    assert seen == [True, True, False, False]
    assert [found.noun for found in objects] == ["apple", "apple"]


def test_a_model_without_a_judge_says_so(tmp_path: Path) -> None:
    pipeline = Pipeline.load(write_native(tmp_path / "tiny"))
    assert not pipeline.info.judge
    with pytest.raises(RequestError, match="'tiny' has none") as caught:
        pipeline.judge(PROMPT, [])
    assert caught.value.param == "judge"


def test_a_judge_is_read_when_it_is_first_asked(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    write_native(folder)
    shutil.copytree(BUNDLED / "storybook" / "judge", folder / "judge")
    (folder / "judge" / "model.safetensors").write_bytes(json.dumps({}).encode())
    pipeline = Pipeline.load(folder)
    images = pipeline.generate(PROMPT, seed=1).images
    with pytest.raises(ConfigError, match="judge"):
        pipeline.judge(PROMPT, images)
