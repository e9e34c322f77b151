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
    assert [model.id for model in ai.models.list()] == ["storybook"]
    assert getattr(ai.models.retrieve("storybook"), "parameters", None) == 1_000_000


def test_it_shows_why_a_request_was_refused(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'halton'") as refusal:
        ai.images.generate(prompt="cat", extra_body={"scheduler": "haltom"})
    assert refusal.value.param == "scheduler"
    assert refusal.value.request_id
    with pytest.raises(openai.NotFoundError, match="storybook"):
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


def test_it_streams(ai: openai.OpenAI) -> None:
    events: list[Any] = list(
        ai.images.generate(prompt="cat", n=2, stream=True, partial_images=1, safety_identifier="me")
    )
    completed = [event for event in events if event.type == "image_generation.completed"]
    assert [event.image_index for event in completed] == [0, 1]
    assert [event.safety_identifier for event in completed] == ["me", "me"]
    whole: Any = ai.images.generate(prompt="cat", n=2).usage
    # The prompt counts with the first, so that the events add up to the answer.
    assert [event.usage.input_tokens for event in completed] == [3, 0]
    assert sum(event.usage.output_tokens for event in completed) == whole.output_tokens
    assert sum(event.usage.total_tokens for event in completed) == whole.total_tokens


def test_it_takes_what_its_types_declare_when_it_is_null(ai: openai.OpenAI) -> None:
    declared: Any = {"frame_count": None, "frame_duration_ms": None, "svg": None}
    assert ai.images.generate(prompt="cat", **declared).data
    assert ai.images.generate(prompt="cat", extra_body=declared).data
    assert ai.images.edit(image=picture("RGB", "red"), prompt="cat", **declared).data
    given: dict[str, Any] = {"frame_count": 9, "svg": {"model": "x"}}
    for name, value in given.items():
        with pytest.raises(openai.BadRequestError) as refusal:
            ai.images.generate(prompt="cat", **{name: value})
        assert refusal.value.param == name
    with pytest.raises(openai.BadRequestError, match="as JSON") as refusal:
        ai.images.edit(
            image=picture("RGB", "red"), prompt="red cat", extra_body={"subjects": [["red", "cat"]]}
        )
    assert refusal.value.param == "subjects"
    markup: Any = {"markup": picture("RGBA", (0, 0, 0, 0))}
    with pytest.raises(openai.BadRequestError, match="give a mask"):
        ai.images.edit(image=picture("RGB", "red"), prompt="cat", **markup)


def test_it_gives_raw_answers(ai: openai.OpenAI) -> None:
    raw = ai.images.with_raw_response.generate(prompt="cat", extra_headers={"x-request-id": "mine"})
    assert (raw.status_code, raw.headers["x-request-id"]) == (200, "mine")
    answer: Any = raw.parse()
    assert answer.data[0].b64_json
    with ai.images.with_streaming_response.generate(prompt="cat") as answer:
        assert b"b64_json" in answer.read()


def test_it_tells_a_prompt_that_is_too_long_from_a_wrong_one(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        ai.images.generate(prompt="cat " * 24)
    assert (refusal.value.code, refusal.value.param) == ("prompt_too_long", "prompt")
    with pytest.raises(openai.BadRequestError) as refusal:
        ai.images.generate(prompt=" ")
    assert (refusal.value.code, refusal.value.param) == ("invalid_value", "prompt")


@pytest.mark.anyio
async def test_it_draws_edits_and_streams_in_an_event_loop(live: int, ai: openai.OpenAI) -> None:
    url = f"http://127.0.0.1:{live}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        drawn = await client.images.generate(prompt="cat", n=2)
        assert len(drawn.data or []) == 2
        edited: Any = await client.images.edit(
            image=picture("RGB", "red"), mask=picture("RGBA", (0, 0, 0, 0)), prompt="cat"
        )
        assert edited.edit["kind"] == "inpaint"
        stream = await client.images.edit(image=picture("RGB", "red"), prompt="cat", stream=True)
        assert [event.type async for event in stream] == ["image_edit.completed"]


def test_what_it_gives_up_leaves_the_engine(
    ai: openai.OpenAI, pipeline: FakePipeline, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.fake.during = gate
    with pytest.raises(openai.APITimeoutError):
        ai.with_options(timeout=0.5).images.generate(prompt="one")
    assert gate.entered.is_set()
    gate.opened.set()
    pipeline.fake.during = lambda prompts: None
    stream = ai.images.generate(prompt="two", n=4, stream=True, partial_images=3)
    next(iter(stream))
    stream.close()
    # One worker of one row: whoever comes next is served only if the others have left.
    assert ai.with_options(max_retries=5).images.generate(prompt="three").data
    assert "Traceback" not in caplog.text
    assert "was destroyed" not in caplog.text
