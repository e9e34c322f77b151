import base64
import gc
import io
import json
import logging
import time
from typing import Any

import httpx2
import openai
import pytest
from fastapi.testclient import TestClient
from openai.types import ImageGenCompletedEvent
from PIL import Image

from tests.worlds.server import CheckFault, FakePipeline, Gate, live_server, wait_until
from unmask.server.http import answers

URL, EDITS = "/v1/images/generations", "/v1/images/edits"
PNG = io.BytesIO()
Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(PNG, "png")


def frames(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for frame in text.strip().split("\n\n"):
        if not frame.startswith(":"):
            name, data = frame.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def image(data: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data["b64_json"])))


def test_previews_come_first_then_the_image(client: TestClient, pipeline: FakePipeline) -> None:
    body = {"prompt": "cat", "stream": True, "partial_images": 3, "steps": 8, "seed": 1}
    answer = client.post(URL, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    events = frames(answer.text)
    kinds = [name for name, _ in events]
    assert kinds == [*["image_generation.partial_image"] * 3, "image_generation.completed"]
    for number, (name, data) in enumerate(events[:-1]):
        assert (data["type"], data["partial_image_index"]) == (name, number)
        assert data["size"] == "64x64"
        assert image(data).size == (64, 64)
    last = events[-1][1]
    assert last["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
        "output_tokens": 64,
        "total_tokens": 67,
    }
    plain = client.post(URL, json={"prompt": "cat", "steps": 8, "seed": 1}).json()
    assert last["b64_json"] == plain["data"][0]["b64_json"]
    assert last["seed"] == plain["seed"]
    assert plain["usage"]["total_tokens"] == 67


def test_each_image_has_its_own_events(client: TestClient) -> None:
    body = {"prompt": "cat", "stream": True, "partial_images": 1, "n": 2}
    events = frames(client.post(URL, json=body).text)
    done = [data["image_index"] for name, data in events if name.endswith("completed")]
    previews = [data["image_index"] for name, data in events if name.endswith("partial_image")]
    assert done == sorted(previews) == [0, 1]


def test_edits_stream_too(client: TestClient) -> None:
    files = {"image": ("a.png", PNG.getvalue())}
    answer = client.post(EDITS, data={"prompt": "cat", "stream": "true"}, files=files)
    assert [name for name, _ in frames(answer.text)] == ["image_edit.completed"]


def test_the_openai_client_reads_the_stream(live: int) -> None:
    ai = openai.OpenAI(base_url=f"http://127.0.0.1:{live}/v1", api_key="none", max_retries=0)
    events = list(
        ai.images.generate(prompt="cat", stream=True, partial_images=2, extra_body={"steps": 6})
    )
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * 2,
        "image_generation.completed",
    ]
    last = events[-1]
    assert isinstance(last, ImageGenCompletedEvent)
    assert last.usage.output_tokens == 64
    ai.close()


def test_what_is_refused_at_once_has_its_status(
    client: TestClient, pipeline: FakePipeline, gate: Gate, fault: CheckFault
) -> None:
    body = {"prompt": "cat", "stream": True}
    assert fault(client.post(URL, json=body | {"steps": 0}), 400)["param"] == "steps"
    assert fault(client.post(URL, json={"prompt": "cat", "partial_images": 2}), 400)["param"] == (
        "partial_images"
    )


def test_a_failure_in_the_middle_is_an_event(client: TestClient, pipeline: FakePipeline) -> None:
    def during(prompts: list[str]) -> None:
        if len(pipeline.fake.batches) == 3:
            raise MemoryError("secret")

    pipeline.fake.during = during
    body = {"prompt": "cat", "stream": True, "partial_images": 3, "steps": 8}
    events = frames(client.post(URL, json=body).text)
    name, data = events[-1]
    assert name == "error"
    assert set(data["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in str(events)


def test_a_slow_stream_is_kept_alive_whatever_steps_there_are(
    client: TestClient, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "KEEPALIVE_SECONDS", 0.05)
    pipeline.fake.during = lambda prompts: time.sleep(0.02)
    text = client.post(URL, json={"prompt": "cat", "stream": True, "steps": 16}).text
    assert text.count(": ping") >= 3
    assert frames(text)[-1][0] == "image_generation.completed"


def test_streams_that_are_left_leave_no_task_behind(
    pipeline: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.fake.during = lambda prompts: time.sleep(0.01)
    with live_server(lambda *_: pipeline) as server:
        wait_until(lambda: server.engine.stats().ready_workers == 1)
        address = f"http://127.0.0.1:{server.bound_port}{URL}"
        for _ in range(5):
            body = {"prompt": "cat", "stream": True, "steps": 200, "partial_images": 3}
            with httpx2.stream("POST", address, json=body) as answer:
                assert answer.status_code == 200
        wait_until(lambda: server.engine.stats().cancelled == 5)
        wait_until(lambda: not server.server_state.tasks)
    gc.collect()
    assert "was destroyed" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("priority", ["normal", "low"])
def test_a_priority_may_be_lower_but_not_higher(
    client: TestClient, fault: CheckFault, priority: str
) -> None:
    assert client.post(URL, json={"prompt": "cat", "priority": priority}).status_code == 200
    assert fault(client.post(URL, json={"prompt": "cat", "priority": "high"}), 400)["param"]
