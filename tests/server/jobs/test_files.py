"""Files of jobs, in a folder and in a store of objects: the same from outside."""

import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fsspec.implementations.memory import MemoryFileSystem

from tests.worlds.jobs import job_store, new_job
from tests.worlds.server import FakePipeline, serving, wait_until
from unmask.errors import ConfigError, UnavailableError
from unmask.server.http import shared
from unmask.server.jobs import jobs
from unmask.server.jobs.files import YOUNG_SECONDS, FolderFiles, JobFiles
from unmask.server.jobs.job import Job
from unmask.server.jobs.kinds import ResultFile
from unmask.server.jobs.remote_files import RemoteFiles, open_files
from unmask.server.state import state
from unmask.server.state.database import open_folder
from unmask.settings import Settings

URL = "/v1/images/generations"
MakeJob = Callable[[JobFiles, str, bytes], Job]


class BrokenSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that nobody can reach."""

    def pipe_file(self, *_: Any, **__: Any) -> None:
        raise ValueError("no route to the store")

    def find(self, *_: Any, **__: Any) -> Any:
        raise ValueError("no route to the store")


def remote() -> RemoteFiles:
    return RemoteFiles(MemoryFileSystem(), f"/{uuid.uuid4().hex}/prefix")


@pytest.fixture(name="files", params=["folder", "memory", "s3"])
def _files(request: pytest.FixtureRequest, tmp_path: Path) -> JobFiles:
    if request.param == "folder":
        return FolderFiles(tmp_path / "files")
    if request.param == "memory":
        return remote()
    store: str = request.getfixturevalue("bucket")
    return open_files(Settings(store=store))


@pytest.fixture(name="done")
def _done(tmp_path: Path) -> MakeJob:
    """Makes a completed job whose files were kept."""
    store = job_store(open_folder(tmp_path))

    def make(files: JobFiles, job_id: str, data: bytes) -> Job:
        store.add(new_job(), job_id, claimed_by="me")
        notes = files.keep_results(job_id, [ResultFile("0.png", "image/png", data)])
        store.complete(job_id, "me", {}, notes)
        return store.find(job_id)

    return make


def test_what_was_kept_is_read_until_it_is_dropped(files: JobFiles, done: MakeJob) -> None:
    files.check()
    assert files.uploads("job_1") == {}
    files.keep_uploads("job_1", {"image": b"x" * 10, "mask": b"y"})
    assert files.uploads("job_1") == {"image": b"x" * 10, "mask": b"y"}
    job = done(files, "job_1", b"0123456789")
    found = files.result(job, "0.png")
    assert found is not None
    assert (found.stat.st_size, found.note.media_type) == (10, "image/png")
    with found.open() as file:
        file.seek(3)
        assert file.read(4) == b"3456"
    assert files.result(job, "../../keys.json") is None
    files.drop_uploads("job_1")
    assert files.uploads("job_1") == {}
    assert files.result(job, "0.png") is not None
    files.keep_results("job_1", [ResultFile("0.png", "image/png", b"again")])
    again = files.result(job, "0.png")
    assert again is not None
    assert again.stat.st_size == 5
    assert list(files.ids()) == []  # it is brand new
    files.drop("job_1")
    files.drop("job_1")
    assert files.result(job, "0.png") is None


def test_a_folder_that_is_not_brand_new_may_be_tidied(tmp_path: Path) -> None:
    folder, store = FolderFiles(tmp_path), remote()
    for files in (folder, store):
        files.check()
        for job_id in ("old", "young"):
            files.keep_uploads(job_id, {"image": b"x"})
        assert list(files.ids()) == []
    then = time.time() - YOUNG_SECONDS - 1
    for path in (tmp_path / "old", tmp_path / ".unmask"):
        os.utime(path, (then, then))
    for name, file in MemoryFileSystem.store.items():
        if "/old/" in name:
            file.created = datetime.now(UTC) - timedelta(seconds=YOUNG_SECONDS + 1)
    assert list(folder.ids()) == list(store.ids()) == ["old"]


def test_a_store_that_cannot_be_reached_is_unavailable() -> None:
    files = RemoteFiles(BrokenSystem(), "/nowhere")
    for attempt in (files.check, lambda: files.uploads("job_1"), files.ids):
        with pytest.raises(UnavailableError, match="store of files cannot be reached"):
            attempt()


@pytest.mark.parametrize("store", ["http://host/", "memory://here", "file:///etc"])
def test_what_is_no_place_for_files_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match=r"UNMASK_STORE .*give a folder, or s3://"):
        open_files(Settings(store=store))


def test_a_server_waits_for_its_store_and_then_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(state, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(state, "LOOK_SECONDS", 0.05)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"UNMASK_STORE: .*0\.2 s: .*Not a directory"):
        shared.Shared(Settings(store=str(tmp_path / "file" / "folder")))
    broken = RemoteFiles(BrokenSystem(), "/nowhere")
    monkeypatch.setattr(shared, "open_files", lambda settings: broken)
    with pytest.raises(ConfigError, match=r"UNMASK_STORE: .*0\.2 s: no route to the store"):
        shared.Shared(Settings(store="s3://bucket"))


def _job(client: TestClient) -> dict[str, Any]:
    """A job that has ended."""
    headers = {"prefer": "respond-async"}
    sent = client.post(URL, json={"prompt": "cat", "seed": 7}, headers=headers).json()
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(client.get(f"/v1/jobs/{sent['id']}").json())
        return bool(found["status"] == "completed")

    wait_until(ended)
    return found


def test_results_are_served_whole_and_in_ranges_wherever_they_are(
    files: JobFiles, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "open_files", lambda settings: files)
    with serving(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        job = _job(client)
        url = job["result"]["data"][0]["url"]
        whole = client.get(url)
        assert whole.headers["content-type"] == "image/png"
        assert int(whole.headers["content-length"]) == len(whole.content)
        part = client.get(url, headers={"range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, whole.content[5:10])
        assert client.get(url, headers={"range": "bytes=99999999-"}).status_code == 416
        assert client.head(url).headers["content-length"] == str(len(whole.content))
        key = {"idempotency-key": "k"}
        answers = [client.post(URL, json={"prompt": "cat"}, headers=key).json() for _ in range(2)]
        assert answers[0] == answers[1]
        assert client.delete(f"/v1/jobs/{job['id']}").status_code == 200
        assert client.get(url).status_code == 404


def test_a_shared_folder_holds_the_files(pipeline: FakePipeline, tmp_path: Path) -> None:
    with serving(lambda: pipeline, store=str(tmp_path / "store")) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        job = _job(client)
        assert (tmp_path / "store" / job["id"] / "results" / "0.png").is_file()
