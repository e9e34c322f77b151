import asyncio
import base64
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import CheckFault, FakePipeline, Gate, ask, running, until
from unmask.server.engine.tickets import Event, Progress
from unmask.server.http import watching

URL, EDITS = "/v1/images/generations", "/v1/images/edits"


def events(text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"].partition(".")[2] for event in found]


def test_a_trace_tells_of_every_step_of_every_image(client: TestClient) -> None:
    body = {"prompt": "cat", "stream": True, "trace": True, "steps": 4, "n": 2, "seed": 1}
    found = events(client.post(URL, json=body).text)
    assert kinds(found)[0] == "queued"
    assert (found[0]["ahead"], found[0]["steps"]) == (0, 8)
    for image_index in (0, 1):
        mine = [e for e in found if e["type"].endswith("trace") and e["image_index"] == image_index]
        assert [event["step"] for event in mine] == [1, 2, 3, 4]
        for event in mine:
            assert (event["steps"], event["window"], event["windows"]) == (4, 0, 1)
            assert (event["grid"], event["corner"]) == ([8, 8], [0, 0])
            assert len(event["cells"]) == len(base64.b64decode(event["sure"])) == 64
            assert set(event["cells"]) <= set("#.=+-")
            assert event["passes"] == 1
        assert "." not in mine[-1]["cells"]
        assert set(base64.b64decode(mine[-1]["sure"])) == {round(255 / 8)}  # of 8 equal logits


def test_a_picture_is_the_same_with_a_trace_and_without(client: TestClient) -> None:
    body = {"prompt": "cat", "stream": True, "steps": 4, "seed": 1, "partial_images": 2}
    plain = events(client.post(URL, json=body).text)
    traced = events(client.post(URL, json=body | {"trace": True}).text)
    assert plain[-1]["b64_json"] == traced[-1]["b64_json"]
    previews = [event for event in traced if event["type"].endswith("partial_image")]
    assert [event["b64_json"] for event in previews] == [e["b64_json"] for e in plain[:-1]]
    assert [event["step"] for event in previews] == [2, 3]
    assert not {"queued", "trace"} & set(kinds(plain))


def test_a_trace_needs_a_stream(client: TestClient, fault: CheckFault) -> None:
    fault(client.post(URL, json={"prompt": "cat", "trace": True}), 400, "trace")


def test_a_trace_is_bounded(
    client: TestClient, fault: CheckFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_TRACED", 64 * 10)
    body = {"prompt": "cat", "stream": True, "trace": True, "steps": 11}
    assert "640" in fault(client.post(URL, json=body), 400, "trace")["message"]
    assert client.post(URL, json=body | {"steps": 10}).status_code == 200
    assert client.post(URL, json=body | {"trace": False}).status_code == 200


@pytest.mark.anyio
async def test_who_waits_is_told_how_many_come_before(pipeline: FakePipeline, gate: Gate) -> None:
    pipeline.fake.during = gate
    ahead: list[int] = []

    def hear(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 0:
            ahead.append(event.ahead)

    async with running(pipeline, max_rows=1) as engine:
        first = ask(engine, pipeline, on_event=hear)
        await until(gate.entered.is_set)
        others = [ask(engine, pipeline, on_event=hear) for _ in range(2)]
        await until(lambda: len(ahead) == 3)
        gate.opened.set()
        await asyncio.gather(first, *others)
    assert ahead == [0, 0, 1]


def test_the_traces_of_an_edit_are_named_after_it(client: TestClient) -> None:
    file = io.BytesIO()
    image = Image.new("RGBA", (64, 64), (9, 9, 9, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    image.save(file, "png")
    data = {"prompt": "cat", "stream": "true", "trace": "true"}
    found = events(client.post(EDITS, data=data, files={"image": ("a.png", file.getvalue())}).text)
    assert found[0]["type"] == "image_edit.queued"
    assert {event["type"] for event in found[1:-1]} == {"image_edit.trace"}
