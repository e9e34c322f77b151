"""Replicas of Ray Serve on this machine: killed, exchanged under load, more and fewer of them.

All tests share one cluster and are run in their order: make replicas.
"""

import base64
import hashlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx2
import pytest
import yaml

SECONDS = 300
SEEDS = range(4)
SENDERS = 5
DRAW = "/v1/images/generations"
FILE = Path(__file__).parents[3] / "deploy" / "ray" / "serve.yaml"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs unmask[ray]"),
]


@pytest.fixture(name="environment", scope="module")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        **os.environ,
        "UNMASK_PORT": str(port),
        "UNMASK_MORE_DEVICES": '["cpu"]',
        "UNMASK_THREADS": "1",
        "UNMASK_STATE_DIR": str(tmp_path_factory.mktemp("state")),
        "RAY_AUTH_TOKEN": "a" * 64,  # so that a test may reach the cluster
    }


@pytest.fixture(name="url", scope="module")
def _url(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"http://127.0.0.1:{environment['UNMASK_PORT']}"
    log = tmp_path_factory.mktemp("log") / "log"
    with _running(["-m", "unmask", "serve", "--ray"], environment, log) as process:

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            return _status(f"{url}/readyz") == 200

        _wait(is_ready, log)
        yield url
    assert process.returncode == 0, log.read_text()
    assert _replicas() == []


@contextmanager
def _running(
    arguments: list[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=said, stderr=said
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            process.wait(SECONDS)


def _wait(true: Callable[[], bool], log: Path | None = None) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, log.read_text() if log else "it never came true"
        time.sleep(0.2)


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
        answer = httpx2.post(f"{url}{DRAW}", json=body, timeout=SECONDS)
        if answer.status_code == 200:
            picture = base64.b64decode(answer.json()["data"][0]["b64_json"])
            return hashlib.sha256(picture).hexdigest()
        assert answer.status_code in (429, 503), answer.text
        time.sleep(int(answer.headers["retry-after"]))
    raise AssertionError("it was never drawn")


@contextmanager
def _load(url: str, senders: int) -> Iterator[list[str]]:
    """So many draw one picture after another meanwhile; all digests, at the end."""
    enough, digests = Event(), list[str]()

    def send() -> None:
        while not enough.is_set():
            digests.append(_draw(url, seed=0))

    with ThreadPoolExecutor(senders) as pool:
        sending = [pool.submit(send) for _ in range(senders)]
        try:
            yield digests
        finally:
            enough.set()
        for each in sending:
            each.result()


def test_nothing_that_was_asked_for_is_lost_with_a_replica(url: str) -> None:
    alone = [_draw(url, seed) for seed in SEEDS]
    before = _replicas()
    assert len(before) == 2
    jobs = [
        httpx2.post(
            f"{url}{DRAW}",
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
    _wait(lambda: len(_replicas()) == 2)
    assert before[0] not in _replicas()


def test_what_nobody_waits_for_is_not_drawn(url: str) -> None:
    body = {"prompt": "a red apple", "steps": 64, "n": 10}
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{url}{DRAW}", json=body, timeout=1.0)

    def given_up() -> list[float]:  # by each replica
        text = httpx2.get(f"{url}/metrics").text
        told = re.findall(
            r'^unmask_drawings_total\{end="cancelled",.*\} (\S+)$', text, re.MULTILINE
        )
        return [float(value) for value in told]

    # One that came in the place of another tells nothing before its model is loaded.
    _wait(lambda: sorted(given_up()) == [0.0, 1.0])


def test_the_file_for_a_cluster_exchanges_and_scales_replicas_and_nobody_notices(
    url: str, environment: dict[str, str], tmp_path: Path
) -> None:
    told = yaml.safe_load(FILE.read_text("utf-8"))
    [application] = told["applications"]
    application["args"] |= {"device": "cpu", "more_devices": []}
    [drawers] = [each for each in application["deployments"] if each["name"] == "drawers"]
    quick = {"look_back_period_s": 3, "upscale_delay_s": 1, "downscale_delay_s": 3}
    drawers["autoscaling_config"] |= {**quick, "max_replicas": 2}
    drawers["autoscaling_config"]["policy"]["policy_kwargs"] |= {"seconds": 0.5}
    file, log = tmp_path / "serve.yaml", tmp_path / "log"
    file.write_text(yaml.safe_dump(told), "utf-8")
    before = _replicas()
    alone = _draw(url, seed=0)
    command = ["-m", "ray.serve.scripts", "run", "--address", "auto", str(file)]
    with _load(url, 1) as drawn, _running(command, environment, log):
        _wait(lambda: not {*before} & {*_replicas()}, log)
        _wait(lambda: len(_replicas()) == 1, log)
        with _load(url, 8) as more:
            _wait(lambda: len(_replicas()) == 2, log)
        _wait(lambda: len(_replicas()) == 1, log)
        time.sleep(1.0)
        assert {*drawn, *more} == {alone}
        assert len(drawn) > 3
