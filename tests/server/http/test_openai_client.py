"""The official client, unchanged, against a live server."""

import base64
import io
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image

from tests.worlds.server import FakePipeline, Gate


@pytest.fixture
def ai(live: int) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{live}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        client.with_options(max_retries=10).models.list()  # until it is loaded
        yield client


def test_it_draws(ai: openai.OpenAI) -> None:
    answer: Any = ai.images.generate(
        prompt="a red cat",
        model="gpt-image-2",
        n=2,
        size="auto",
        quality="low",
        output_format="webp",
        extra_body={"seed": 7, "scheduler": "halton", "guidance_scale": 2.5},
    )
    assert [base64.b64decode(item.b64_json)[8:12] for item in answer.data] == [b"WEBP"] * 2
    assert (answer.size, answer.quality, answer.output_format) == ("64x64", "low", "webp")
    assert (answer.seed, answer.steps, answer.scheduler) == (7, 8, "halton")
    assert answer.data[1].image_index == 1


def test_it_lists_models(ai: openai.OpenAI) -> None:
    assert [model.id for model in ai.models.list()] == ["storybook-64"]
    assert getattr(ai.models.retrieve("storybook-64"), "parameters", None) == 1_000_000


def test_it_shows_why_a_request_was_refused(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'halton'") as refusal:
        ai.images.generate(prompt="cat", extra_body={"scheduler": "haltom"})
    assert refusal.value.param == "scheduler"
    assert refusal.value.request_id
    with pytest.raises(openai.NotFoundError, match="storybook-64"):
        ai.images.generate(prompt="cat", model="sdxl")


def test_it_sees_a_full_queue_as_a_rate_limit(
    ai: openai.OpenAI, pipeline: FakePipeline, gate: Gate
) -> None:
    pipeline.fake.during = gate
    refusals = []

    def draw() -> None:
        try:
            ai.images.generate(prompt="cat")
        except openai.RateLimitError as refusal:
            refusals.append(refusal)
            gate.opened.set()

    first = threading.Thread(target=draw)
    first.start()
    assert gate.entered.wait(10)
    # One may wait, so the other of these is refused, and its refusal lets the rest go on.
    others = [threading.Thread(target=draw) for _ in range(2)]
    for thread in others:
        thread.start()
    for thread in [first, *others]:
        thread.join(10)
    [refusal] = refusals
    assert refusal.code == "queue_full"
    assert 1 <= int(refusal.response.headers["retry-after"]) <= 60


def picture(mode: str, colour: str | tuple[int, ...]) -> io.BytesIO:
    file = io.BytesIO()
    Image.new(mode, (40, 24), colour).save(file, "png")
    file.seek(0)
    file.name = "picture.png"
    return file


def test_it_edits(ai: openai.OpenAI, pipeline: FakePipeline) -> None:
    answer: Any = ai.images.edit(
        image=picture("RGB", "red"),
        mask=picture("RGBA", (0, 0, 0, 0)),
        prompt="a red cat",
        model="gpt-image-2",
        n=2,
        size="auto",
        output_format="webp",
        input_fidelity="high",
        extra_body={
            "seed": 7,
            "guidance_scale": 2,
            "guidance": "interval",
            "guidance_interval": [0.25, 0.5],
            "zigzag": True,
            "feather": 3,
        },
    )
    assert [base64.b64decode(item.b64_json)[8:12] for item in answer.data] == [b"WEBP"] * 2
    assert (answer.size, answer.seed, answer.zigzag) == ("40x24", 7, True)
    assert answer.guidance_interval == [0.25, 0.5]
    assert (answer.edit["kind"], answer.edit["feather"]) == ("inpaint", 3)
    ai.images.edit(image=[picture("RGB", "red")], prompt="a red cat")
    assert [request.edit.kind for request in pipeline.drawn if request.edit] == [
        "inpaint",
        "revise",
    ]


def test_it_shows_why_an_edit_was_refused(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="1 picture at a time") as refusal:
        ai.images.edit(image=[picture("RGB", "red"), picture("RGB", "red")], prompt="cat")
    assert refusal.value.param == "image"
    mask = picture("RGBA", (0, 0, 0, 255))
    with pytest.raises(openai.BadRequestError, match="alpha channel") as refusal:
        ai.images.edit(image=picture("RGB", "red"), mask=mask, prompt="cat")
    assert refusal.value.param == "mask"


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_it_makes_variations(ai: openai.OpenAI, pipeline: FakePipeline) -> None:
    answer: Any = ai.images.create_variation(image=picture("RGB", "red"), n=2, model="dall-e-2")
    assert len(answer.data) == 2
    assert answer.edit["kind"] == "variation"
    assert pipeline.drawn[0].prompt == ""
