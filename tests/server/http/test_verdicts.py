"""What answers tell of the judge, with the bundled model."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.server.http.test_jobs import ended, later
from tests.worlds.server import CheckFault, serving, wait_until
from tests.worlds.uploads import PNG
from unmask.pipeline import Pipeline

URL = "/v1/images/generations"
APPLES = {"prompt": "two red apples on a blue background", "seed": 7, "judge": True}


@pytest.fixture(name="client", scope="module")
def _client() -> Iterator[TestClient]:
    with serving(lambda: Pipeline.load("storybook"), size_policy="scale") as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_each_image_has_its_verdict(client: TestClient) -> None:
    assert client.get("/v1/models").json()["data"][0]["judge"] is True
    answer = client.post(URL, json=APPLES | {"n": 2, "size": "100x100"}).json()
    verdicts = [image["verdict"] for image in answer["data"]]
    assert [verdict["right"] for verdict in verdicts] == [True, True]
    seen = verdicts[0]["objects"][0]
    assert (seen["noun"], seen["colours"], verdicts[0]["background"]) == ("apple", ["red"], "blue")
    assert all(0 <= seen[name] <= 128 for name in ("x", "y", "side"))  # px of what was drawn
    assert answer["timings"]["judge"] > 0
    unjudged = client.post(URL, json=APPLES | {"judge": False}).json()
    assert "verdict" not in unjudged["data"][0]
    assert "judge" not in unjudged["timings"]


def test_streams_and_jobs_have_it_too(client: TestClient) -> None:
    lines = client.post(URL, json=APPLES | {"stream": True}).text.splitlines()
    event = json.loads(next(line[6:] for line in lines if line.startswith("data: ")))
    assert event["verdict"]["right"] is True
    job = ended(client, later(client, None, **APPLES))
    assert job["result"]["data"][0]["verdict"] == event["verdict"]


def test_a_prompt_that_the_judge_cannot_read_has_a_reason(client: TestClient) -> None:
    answer = client.post(URL, json=APPLES | {"prompt": "an apple on the left"}).json()
    verdict = answer["data"][0]["verdict"]
    assert "right" not in verdict
    assert "on the left" in verdict["reason"]
    assert verdict["objects"]


def test_edits_are_not_judged(client: TestClient, fault: CheckFault) -> None:
    files = {"image": ("a.png", PNG, "image/png")}
    fields = {"prompt": "two red apples", "judge": "true"}
    fault(client.post("/v1/images/variations", data=fields, files=files), 400, "judge")
