"""Edits as JSON, whose pictures are data URLs."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from tests.worlds.uploads import EDITS, MASK, OUTPAINT, PNG, VARIATIONS, file, noise, post


def url(data: bytes, kind: str = "image/png") -> dict[str, str]:
    return {"image_url": f"data:{kind};base64,{base64.b64encode(data).decode()}"}


def test_it_is_the_edit_that_a_form_asks_for(client: TestClient, pipeline: FakePipeline) -> None:
    body = {"prompt": "a red cat", "seed": 3, "images": [url(PNG)], "mask": url(MASK)}
    answer = client.post(EDITS, json=body)
    assert answer.status_code == 200, answer.text
    form = post(client, data={"prompt": "a red cat", "seed": "3"}, image=PNG, mask=MASK)
    assert answer.json()["data"] == form.json()["data"]
    assert answer.json()["edit"] == form.json()["edit"]


def test_it_can_be_kept_as_a_job(client: TestClient, until: Until) -> None:
    body = {"prompt": "a red cat", "images": [url(PNG)], "mask": url(MASK)}
    job = client.post(EDITS, json=body, headers={"prefer": "respond-async"}).json()

    def has_ended() -> bool:
        job.update(client.get(f"/v1/jobs/{job['id']}").json())
        return job["status"] not in ("queued", "in_progress")

    until(has_ended)
    assert job["status"] == "completed", job


@pytest.mark.parametrize(("route", "more"), [(OUTPAINT, {"left": 8}), (VARIATIONS, {"n": 2})])
def test_the_other_routes_take_it_too(client: TestClient, route: str, more: dict[str, int]) -> None:
    body = {"prompt": "cat", "images": [url(PNG, "")], **more}
    assert client.post(route, json=body).status_code == 200


@pytest.mark.parametrize(
    ("param", "value", "words"),
    [
        ("images", [{"image_url": "https://example.org/a.png"}], "nothing is fetched"),
        ("images", [{"image_url": "file:///etc/passwd"}], "nothing is fetched"),
        ("images", [{"image_url": "data:image/png,abc"}], "base 64"),
        ("images", [{"image_url": "data:image/png;base64,a"}], "no base 64"),
        ("images", [{"image_url": "data:image/png;base64,"}], "empty"),
        ("images", [{"file_id": "file-1"}], ""),
        ("images", [], ""),
        ("images", [url(PNG), url(PNG)], ""),
        ("images", None, ""),
        ("mask", {"image_url": "http://127.0.0.1/"}, "nothing is fetched"),
    ],
)
def test_what_is_no_picture_is_refused(
    client: TestClient, fault: CheckFault, param: str, value: Any, words: str
) -> None:
    body = {"prompt": "cat", "images": [url(PNG)], param: value}
    error = fault(client.post(EDITS, json=body), 400)
    assert error["param"] in (param, "image")
    assert words in error["message"]


def test_its_size_is_bound_like_that_of_a_form(
    serve: Serve, pipeline: FakePipeline, until: Until, fault: CheckFault
) -> None:
    picture = file(noise(size=(200, 200)))
    with serve(lambda: pipeline, max_body_bytes=1000, max_upload_bytes=300_000) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        body = {"prompt": "cat", "images": [url(picture)]}
        assert client.post(EDITS, json=body).status_code == 200
        fault(client.post(EDITS, json={**body, "prompt": "x" * 300_000}), 413)
