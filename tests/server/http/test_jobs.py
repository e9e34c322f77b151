"""Jobs over HTTP: accepted, watched, cancelled, read by their owner alone."""

import base64
import gc
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from tests.worlds.server import (
    SECONDS,
    CheckFault,
    FakePipeline,
    Gate,
    Serve,
    live_server,
    wait_until,
)
from tests.worlds.uploads import MASK, PNG
from unmask.errors import DrawingError, QueueFullError
from unmask.server.jobs import runner
from unmask.server.jobs.store import JobStore
from unmask.server.jobs.sweeper import Sweeper
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.server.state.database import FILE_NAME, open_folder
from unmask.settings import load_settings

URL, JOBS = "/v1/images/generations", "/v1/jobs"
LATER = {"prefer": "respond-async"}
CAT = {"prompt": "cat", "seed": 7}
Json = dict[str, Any]


def later(client: TestClient, headers: dict[str, str] | None = None, **body: object) -> Json:
    answer = client.post(URL, json={**CAT, **body}, headers={**LATER, **(headers or {})})
    assert answer.status_code == 202, answer.text
    job: Json = answer.json()
    assert answer.headers["location"].endswith(f"{JOBS}/{job['id']}")
    assert answer.headers["preference-applied"] == "respond-async"
    return job


def ended(client: TestClient, job: Json) -> Json:
    found: Json = {}

    def has_ended() -> bool:
        found.update(client.get(f"{JOBS}/{job['id']}").json())
        return found["status"] not in ("queued", "in_progress")

    wait_until(has_ended)
    return found


def pictures(client: TestClient, job: Json) -> list[bytes]:
    return [client.get(image["url"]).content for image in job["result"]["data"]]


def direct(client: TestClient, **body: object) -> list[str]:
    answer = client.post(URL, json={**CAT, **body})
    return [image["b64_json"] for image in answer.json()["data"]]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_job_ends_in_the_pictures_that_would_have_been_answered_at_once(
    client: TestClient,
) -> None:
    job = later(client, n=2)
    assert (job["object"], job["kind"], job["progress"]) == ("job", "images.generation", 0)
    done = ended(client, job)
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert done["expires_at"] > done["completed_at"] >= done["created_at"]
    assert done["result"]["seed"] == 7
    assert list(map(b64, pictures(client, done))) == direct(client, n=2)


def test_an_edit_is_kept_with_its_pictures(client: TestClient) -> None:
    files = {"image": ("i.png", PNG, "image/png"), "mask": ("m.png", MASK, "image/png")}
    fields = {"prompt": "cat", "seed": "7"}
    answer = client.post("/v1/images/edits", files=files, data=fields, headers=LATER)
    assert answer.status_code == 202, answer.text
    done = ended(client, answer.json())
    assert done["kind"] == "images.edit"
    at_once = client.post("/v1/images/edits", files=files, data=fields).json()
    assert b64(pictures(client, done)[0]) == at_once["data"][0]["b64_json"]
    assert done["result"]["edit"] == at_once["edit"]


def test_what_is_wrong_is_refused_before_it_is_a_job(client: TestClient, fault: CheckFault) -> None:
    fault(client.post(URL, json={**CAT, "steps": 0}, headers=LATER), 400, "steps")
    fault(client.post(URL, json={**CAT, "stream": True}, headers=LATER), 400, "stream")
    bad = {"idempotency-key": "with space"}
    fault(client.post(URL, json=CAT, headers=bad), 400, "Idempotency-Key")
    assert client.get(JOBS).json()["data"] == []


def test_a_file_is_read_by_whoever_knows_its_url_and_nobody_else(
    client: TestClient, fault: CheckFault
) -> None:
    url = httpx2.URL(ended(client, later(client))["result"]["data"][0]["url"])
    answer = client.get(str(url))
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert client.get(str(url), headers={"range": "bytes=1-3"}).content == answer.content[1:4]
    fault(client.get(url.path), 404)
    fault(client.get(url.path, params={"token": "é" * 43}), 404)
    token = url.params["token"]
    for name in ("1.png", "..%2F..%2Fjobs.sqlite", "0.jpeg"):
        path = url.path.replace("0.png", name)
        assert client.get(path, params={"token": token}).status_code == 404


def test_a_url_is_answered_at_once_too(client: TestClient) -> None:
    answer = client.post(URL, json={**CAT, "response_format": "url"}).json()
    assert "b64_json" not in answer["data"][0]
    assert [b64(client.get(answer["data"][0]["url"]).content)] == direct(client)


def test_the_same_key_is_drawn_once(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    key = {"idempotency-key": "k-1"}
    first = client.post(URL, json={"prompt": "cat"}, headers=key).json()
    again = client.post(URL, json={"prompt": "cat", "n": None}, headers=key).json()
    assert first == again
    assert len(pipeline.drawn) == 1
    other = client.post(URL, json={"prompt": "dog"}, headers=key)
    assert fault(other, 422)["code"] == "idempotency_key_reused"
    assert other.headers["x-should-retry"] == "false"
    job = later(client, key, seed=None)
    assert ended(client, job)["result"]["seed"] == first["seed"]


def test_a_failed_job_is_read_like_any_other(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    def fail(prompts: list[str]) -> None:
        raise DrawingError("it gave no numbers")

    pipeline.fake.during = fail
    key = {"idempotency-key": "k"}
    answer = client.post(URL, json=CAT, headers=key)
    assert fault(answer, 500)["code"] == "drawing_failed"
    assert answer.headers["x-should-retry"] == "false"
    pipeline.fake.during = lambda prompts: None
    assert fault(client.post(URL, json=CAT, headers=key), 500)["code"] == "drawing_failed"
    job = client.get(JOBS).json()["data"][0]
    assert job["status"] == "failed"
    assert job["error"]["code"] == "drawing_failed"


def test_a_job_whose_end_cannot_be_written_at_once_ends_later(
    client: TestClient, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = JobStore.fail
    broken = [True, True]

    def fail_later(store: JobStore, *args: Any) -> bool:
        if broken:
            broken.pop()
            raise OperationalError("", None, Exception("database is locked"))
        return fail(store, *args)

    monkeypatch.setattr(JobStore, "fail", fail_later)
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.01)
    pipeline.fake.during = Mock(side_effect=DrawingError("it gave no numbers"))
    done = ended(client, later(client))
    assert (done["status"], done["error"]["code"]) == ("failed", "drawing_failed")
    assert not broken


def test_a_cancelled_job_stops_and_a_deleted_one_is_gone(
    client: TestClient, pipeline: FakePipeline, gate: Gate, fault: CheckFault
) -> None:
    pipeline.fake.during = gate
    job = later(client)
    assert gate.entered.wait(SECONDS)
    path = f"{JOBS}/{job['id']}"
    assert client.delete(path).json()["status"] == "cancelled"
    gate.opened.set()
    assert client.get(path).json()["status"] == "cancelled"
    assert client.delete(path).json()["deleted"] is True
    assert fault(client.get(path), 404)["code"] == "job_not_found"
    assert pipeline.fake.batches == [["cat"]]  # one step was begun, and no other


def test_jobs_of_others_are_not_in_the_line_of_the_first_request(
    client: TestClient, pipeline: FakePipeline, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unmask.requests")
    pipeline.fake.during = gate
    with ThreadPoolExecutor() as pool:
        key = {"idempotency-key": "k"}
        first = pool.submit(client.post, URL, json={**CAT, "steps": 12}, headers=key)
        assert gate.entered.wait(SECONDS)
        other = later(client, n=3, steps=1)
        gate.opened.set()
        assert ended(client, other)["status"] == "completed"
        assert first.result().status_code == 200
    lines = [vars(record) for record in caplog.records if record.name == "unmask.requests"]
    assert [line["images"] for line in lines if "images" in line] == [1]


def test_events_tell_each_change_until_the_end(
    client: TestClient, pipeline: FakePipeline, gate: Gate
) -> None:
    pipeline.fake.during = lambda prompts: time.sleep(0.2)
    job = later(client, steps=8)
    frames = client.get(f"{JOBS}/{job['id']}/events").text.strip().split("\n\n")
    told = [json.loads(frame.partition("data: ")[2]) for frame in frames]
    assert all(frame.startswith("event: job") for frame in frames)
    progress = [each["progress"] for each in told]
    assert progress == sorted(progress)
    assert any(0 < percent < 100 for percent in progress)
    assert (told[-1]["status"], told[-1]["progress"]) == ("completed", 100)
    assert told[-1]["result"]["data"][0]["url"]


def test_lists_are_pages(client: TestClient, fault: CheckFault) -> None:
    ids = [later(client)["id"] for _ in range(3)][::-1]
    page = client.get(JOBS, params={"limit": 2}).json()
    assert [job["id"] for job in page["data"]] == ids[:2]
    assert page["has_more"]
    rest = client.get(JOBS, params={"after": page["last_id"]}).json()
    assert [job["id"] for job in rest["data"]] == ids[2:]
    fault(client.get(JOBS, params={"limit": 101}), 400, "limit")
    fault(client.get(JOBS, params={"colour": "red"}), 400, "colour")


def test_a_full_store_takes_no_more(
    pipeline: FakePipeline, serve: Serve, gate: Gate, fault: CheckFault
) -> None:
    pipeline.fake.during = gate
    with serve(lambda: pipeline, store_bytes=1 << 20, max_body_bytes=1 << 20) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        files = {"image": ("a.png", PNG + b"\0" * 400_000, "image/png")}
        sent = [client.post("/v1/images/variations", files=files, headers=LATER) for _ in range(2)]
        assert sent[0].status_code == 202
        assert fault(sent[1], 429)["code"] == "queue_full"
        assert int(sent[1].headers["retry-after"]) > 0
        gate.opened.set()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("", None, Exception("disk I/O error")), 503),
        (OSError(28, "No space left on device"), 503),
        (QueueFullError("it filled up meanwhile", 7), 429),
    ],
)
def test_what_came_with_a_job_that_is_not_accepted_is_removed(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    fault: CheckFault,
    error: Exception,
    status: int,
) -> None:
    files = {"image": ("a.png", PNG, "image/png")}
    monkeypatch.setattr(JobStore, "add", Mock(side_effect=error))
    fault(client.post("/v1/images/variations", files=files, headers=LATER), status)
    assert list((load_settings().state_folder / "files").iterdir()) == []


def test_a_job_counts_as_a_drawing_until_it_ends(
    pipeline: FakePipeline, serve: Serve, gate: Gate, fault: CheckFault
) -> None:
    pipeline.fake.during = gate
    with serve(lambda: pipeline, jobs_at_once=2) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        jobs = [later(client) for _ in range(2)]
        fault(client.post(URL, json=CAT), 429)
        fault(client.post(URL, json=CAT, headers=LATER), 429)
        gate.opened.set()
        for job in jobs:
            assert ended(client, job)["status"] == "completed"
        wait_until(lambda: client.post(URL, json=CAT).status_code == 200)


@pytest.fixture(name="two")
def _two(pipeline: FakePipeline, serve: Serve) -> Iterator[tuple[TestClient, Json, Json]]:
    keys = KeyFile(load_settings().state_folder)
    ann, bob = (
        {"authorization": f"Bearer {keys.add(name, ['draw'], Limits())}"} for name in ("ann", "bob")
    )
    with serve(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client, ann, bob


def test_what_one_key_made_is_not_there_for_another(
    two: tuple[TestClient, Json, Json], fault: CheckFault
) -> None:
    client, ann, bob = two
    job = later(client, ann)
    path = f"{JOBS}/{job['id']}"
    wait_until(lambda: client.get(path, headers=ann).json()["status"] == "completed")
    for answer in (
        client.get(path, headers=bob),
        client.get(f"{path}/events", headers=bob),
        client.delete(path, headers=bob),
        client.get(JOBS, params={"after": job["id"]}, headers=bob),
    ):
        assert fault(answer, 404)["code"] == "job_not_found"
    assert client.get(JOBS, headers=bob).json()["data"] == []
    fault(client.get(path), 401)
    url = client.get(path, headers=ann).json()["result"]["data"][0]["url"]
    assert client.get(url).status_code == 200  # no key: it is in the URL


def test_a_stopped_server_gives_jobs_back_and_the_next_one_draws_them(
    pipeline: FakePipeline, gate: Gate
) -> None:
    pipeline.fake.during = gate
    with live_server(lambda *_: pipeline, shutdown_timeout_seconds=1) as server:
        url = f"http://127.0.0.1:{server.bound_port}"
        wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        jobs = [httpx2.post(url + URL, json=CAT, headers=LATER).json() for _ in range(3)]
        assert gate.entered.wait(SECONDS)
        server.should_exit = True
        wait_until(lambda: not server.started or server.engine.stats().ready_workers == 0)
        gate.opened.set()
    second = FakePipeline()
    with live_server(lambda *_: second) as server:
        url = f"http://127.0.0.1:{server.bound_port}"

        def all_done() -> bool:
            page = httpx2.get(url + JOBS, params={"status": "completed"}).json()
            return {job["id"] for job in page["data"]} == {job["id"] for job in jobs}

        wait_until(all_done)


def test_a_folder_that_cannot_be_used_keeps_the_rest_going(
    pipeline: FakePipeline, serve: Serve, tmp_path: Path, fault: CheckFault
) -> None:
    (tmp_path / "runners").write_text("no folder")
    with serve(lambda: pipeline, state_dir=tmp_path) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(URL, json=CAT).status_code == 200
        fault(client.post(URL, json=CAT, headers=LATER), 503)


def test_who_asks_for_jobs_where_there_are_none_makes_no_folder(
    client: TestClient, fault: CheckFault
) -> None:
    assert client.get(JOBS).json()["data"] == []
    missing = f"{JOBS}/job_1"
    for answer in (
        client.get(missing),
        client.delete(missing),
        client.get(f"{missing}/events"),
        client.get("/v1/results/job_1/0.png", params={"token": "x"}),
        client.get(JOBS, params={"after": "job_1"}),
    ):
        assert fault(answer, 404)["code"] == "job_not_found"
    key = {"idempotency-key": "k"}
    fault(client.post(URL, json={**CAT, "model": "no"}, headers=key), 404)
    assert not load_settings().state_folder.exists()


def test_a_store_that_cannot_be_opened_costs_nothing_however_often_it_is_asked_for(
    pipeline: FakePipeline, serve: Serve, monkeypatch: pytest.MonkeyPatch, fault: CheckFault
) -> None:
    folder, wrong = load_settings().state_folder, OperationalError("", None, Exception("broken"))
    monkeypatch.setattr(Sweeper, "sweep", Mock(side_effect=wrong))
    open_folder(folder).dispose()

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with serve(lambda: pipeline) as client:
        before = 0
        for _ in range(3):
            fault(client.get("/v1/results/job_1/0.png"), 503)
            assert list((folder / "runners").iterdir()) == []
            before = before or descriptors()
        (folder / FILE_NAME).write_text("no database " * 100)
        for _ in range(3):
            fault(client.get("/v1/results/job_1/0.png"), 503)
        assert descriptors() <= before
        (folder / FILE_NAME).unlink()
        monkeypatch.undo()
        assert later(client)["status"] == "queued"
