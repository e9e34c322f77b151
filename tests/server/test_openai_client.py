"""The official client, unchanged, against a live server."""

import base64
import threading

import openai
import pytest


@pytest.fixture
def ai(live):
    url = f"http://127.0.0.1:{live}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        client.with_options(max_retries=10).models.list()  # until it is loaded
        yield client


def test_it_draws(ai):
    answer = ai.images.generate(
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


def test_it_lists_models(ai):
    assert [model.id for model in ai.models.list()] == ["storybook-64"]
    assert ai.models.retrieve("storybook-64").parameters == 1_000_000


def test_it_shows_why_a_request_was_refused(ai):
    with pytest.raises(openai.BadRequestError, match="did you mean 'halton'") as refusal:
        ai.images.generate(prompt="cat", extra_body={"scheduler": "haltom"})
    assert refusal.value.param == "scheduler"
    assert refusal.value.request_id
    with pytest.raises(openai.NotFoundError, match="storybook-64"):
        ai.images.generate(prompt="cat", model="sdxl")


def test_it_sees_a_full_queue_as_a_rate_limit(ai, pipeline, gate):
    pipeline.during = gate
    refusals = []

    def draw():
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
