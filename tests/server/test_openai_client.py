"""The official client against a real server on a socket."""

import base64
import io
from collections.abc import Iterator

import openai
import pytest
from PIL import Image


@pytest.fixture
def official(live: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{live}/v1", api_key="none") as session:
        session.max_retries = 6  # the model may still be loading
        yield session


def test_the_official_client_draws(official, pipeline):
    answer = official.images.generate(
        prompt="a cat", n=2, size="auto", extra_body={"seed": 7, "scheduler": "halton"}
    )
    images = [Image.open(io.BytesIO(base64.b64decode(item.b64_json))) for item in answer.data]
    request = pipeline.drawn[0]
    assert [image.tobytes() for image in images] == [
        pipeline.draw(request, i).tobytes() for i in range(2)
    ]
    assert (request.seed, request.scheduler) == (7, "halton")
    assert answer.model_extra["seed"] == 7


def test_the_official_client_lists_models(official, pipeline):
    assert [model.id for model in official.models.list()] == [pipeline.info.name]
    assert official.models.retrieve(pipeline.info.name).owned_by == "unmask"


def test_the_official_client_raises_its_own_errors(official):
    with pytest.raises(openai.BadRequestError, match="scheduler 'bogus'") as bad:
        official.images.generate(prompt="x", extra_body={"scheduler": "bogus"})
    assert bad.value.param == "scheduler"
    assert bad.value.request_id
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        official.images.generate(prompt="x", model="other")
