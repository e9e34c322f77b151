import pytest

from tests.worlds.clip_models import clip_pipeline
from unmask.pipeline import Pipeline


@pytest.fixture(name="clips", scope="module")
def _clips() -> Pipeline:
    """A small model of clips."""
    return clip_pipeline()
