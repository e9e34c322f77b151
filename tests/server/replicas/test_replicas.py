"""Two replicas of Ray Serve on this machine, one of which is killed: make replicas."""

import base64
import hashlib
import importlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import yaml

from unmask.settings import load_settings

SECONDS = 120
SEEDS = range(4)
SENDERS = 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs unmask[ray]"),
]


@pytest.fixture(name="url")
def _url(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "UNMASK_PORT": str(port),
        "UNMASK_MORE_DEVICES": '["cpu"]',
        "UNMASK_THREADS": "1",
        "UNMASK_STATE_DIR": str(tmp_path / "state"),
    }
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "unmask", "serve", "--ray"],
            env={**os.environ, **variables},
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            end = time.monotonic() + SECONDS
            while _status(f"{url}/readyz") != 200:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(SECONDS)
    assert process.returncode == 0
    assert _replicas() == []


def _status(url: str) -> int:
    try:
        return httpx2.get(url, timeout=5).status_code
    except httpx2.HTTPError:
        return 0


def _replicas() -> list[int]:
    """The processes of the replicas."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, words in lines if "ServeReplica:unmask:drawers" in words]


def _draw(url: str, seed: int) -> str:
    """The digest of a picture; who is told to ask again does so."""
    body = {"prompt": "a red apple", "seed": seed}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        answer = httpx2.post(f"{url}/v1/images/generations", json=body, timeout=SECONDS)
        if answer.status_code == 200:
            picture = base64.b64decode(answer.json()["data"][0]["b64_json"])
            return hashlib.sha256(picture).hexdigest()
        assert answer.status_code in (429, 503), answer.text
        time.sleep(int(answer.headers["retry-after"]))
    raise AssertionError("it was never drawn")


def test_nothing_that_was_asked_for_is_lost_with_a_replica(url: str) -> None:
    alone = [_draw(url, seed) for seed in SEEDS]
    before = _replicas()
    assert len(before) == 2
    jobs = [
        httpx2.post(
            f"{url}/v1/images/generations",
            json={"prompt": "a blue car", "seed": seed},
            headers={"prefer": "respond-async"},
            timeout=SECONDS,
        ).json()["id"]
        for seed in SEEDS
    ]
    with ThreadPoolExecutor(SENDERS * len(SEEDS)) as senders:
        drawn = [senders.submit(_draw, url, seed) for seed in list(SEEDS) * SENDERS]
        time.sleep(0.5)
        os.kill(before[0], signal.SIGKILL)
        assert [each.result() for each in drawn] == alone * SENDERS
    end = time.monotonic() + SECONDS
    for job in jobs:
        while (state := httpx2.get(f"{url}/v1/jobs/{job}").json())["status"] != "completed":
            assert state["status"] in ("queued", "in_progress"), state
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in Ray's own code
def test_the_file_for_a_cluster_is_what_ray_reads() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = (Path(__file__).parents[3] / "deploy" / "ray" / "serve.yaml").read_text("utf-8")
    [application] = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    module, name = application.import_path.split(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert load_settings(**application.args).device == "cuda"
