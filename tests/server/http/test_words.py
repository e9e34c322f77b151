"""What is told of words that a model was not taught."""

import json
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.server.http.test_jobs import ended, later
from tests.worlds.server import CheckFault, FakePipeline
from tests.worlds.uploads import PNG

URL = "/v1/images/generations"
APLE = {"prompt": "a red aple", "steps": 3, "seed": 7}
WARNING = {
    "code": "unknown_words",
    "param": "prompt",
    "message": "prompt: storybook was not taught 'aple' (nearest: apple)",
    "words": [{"word": "aple", "nearest": ["apple"]}],
}


def warnings(answer: httpx2.Response) -> list[dict[str, Any]] | None:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] | None = answer.json().get("warnings")
    return found


def test_an_answer_tells_unknown_words_and_none_where_all_are_known(client: TestClient) -> None:
    assert warnings(client.post(URL, json=APLE)) == [WARNING]
    assert warnings(client.post(URL, json=APLE | {"prompt": "a red apple"})) is None
    negative = {"prompt": "a cat", "negative_prompt": "aple", "guidance_scale": 2.0}
    [warning] = warnings(client.post(URL, json=APLE | negative)) or []
    assert warning["param"] == "negative_prompt"


@pytest.mark.parametrize("route", ["edits", "outpaint", "variations"])
def test_edits_tell_them_too(client: TestClient, route: str) -> None:
    fields = {"prompt": "an aple", "right": "8"} if route == "outpaint" else {"prompt": "an aple"}
    files = {"image": ("a.png", PNG, "image/png")}
    assert warnings(client.post(f"/v1/images/{route}", data=fields, files=files)) == [WARNING]


def test_jobs_and_streams_tell_them_too(client: TestClient) -> None:
    assert ended(client, later(client, None, **APLE))["result"]["warnings"] == [WARNING]
    lines = client.post(URL, json=APLE | {"stream": True, "n": 2}).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["warnings"] for event in events] == [[WARNING]] * 2


def test_a_strict_prompt_is_refused_before_anything_is_drawn(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    strict = {"strict_prompt": True}
    for headers in ({}, {"Prefer": "respond-async"}):
        error = fault(client.post(URL, json=APLE | strict, headers=headers), 400, "prompt")
        assert error["code"] == "unknown_words"
        assert "'aple' (nearest: apple)" in error["message"]
    files = {"image": ("a.png", PNG, "image/png")}
    fields = {"prompt": "an aple", "strict_prompt": "true"}
    fault(client.post("/v1/images/variations", data=fields, files=files), 400, "prompt")
    assert pipeline.drawn == []
    assert warnings(client.post(URL, json=APLE | strict | {"prompt": "a cat"})) is None
