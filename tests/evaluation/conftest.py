"""A whole untrained model of 16 px pictures, an untrained judge of plain shapes, and a renderer."""

import pytest

from tests.worlds.native import native_pipeline
from tests.worlds.scenes import shapes_renderer, untrained_judge
from unmask.pipeline import Pipeline
from unmask.scenes.judge import Judge
from unmask.scenes.renderer import SceneRenderer


@pytest.fixture(scope="session")
def renderer() -> SceneRenderer:
    return shapes_renderer()


@pytest.fixture(scope="session")
def judge() -> Judge:
    return untrained_judge()


@pytest.fixture
def pipeline() -> Pipeline:
    return native_pipeline(stages=2, condition_length=64)
