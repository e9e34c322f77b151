"""How a server stops: nobody is left without an answer, and it never takes longer than it may."""

import contextlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import httpx2
import pytest

from tests.worlds.server import SECONDS, FakePipeline, Gate, live_server, wait_until
from unmask.server.engine.engine import EngineState
from unmask.server.http.server import Server

URL = "/v1/images/generations"


def post(server: Server, **body: object) -> httpx2.Response:
    url = f"http://127.0.0.1:{server.bound_port}{URL}"
    return httpx2.post(url, json={"prompt": "cat", **body}, timeout=SECONDS)


class Background:
    """Calls in threads, and what came of them."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.results: list[httpx2.Response | Exception] = []

    def call(self, function: Callable[[], httpx2.Response]) -> None:
        def run() -> None:
            try:
                self.results.append(function())
            except httpx2.TransportError as error:
                self.results.append(error)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def join(self) -> list[httpx2.Response | Exception]:
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        return self.results


def ready(server: Server) -> None:
    wait_until(lambda: server.engine.state is EngineState.READY)


def check_end(result: httpx2.Response | Exception) -> str:
    """How a request ended, which must be in a way that its sender can read."""
    if isinstance(result, Exception):  # it came when nobody listened any more
        assert isinstance(result, httpx2.ConnectError | httpx2.ReadError), repr(result)
        return "not connected"
    if result.headers["content-type"].startswith("text/event-stream"):
        name = result.text.strip().rpartition("\n\n")[2].splitlines()[0]
        assert name in ("event: error", "event: image_generation.completed"), result.text
        return name
    assert result.status_code in (200, 503), result.text
    if result.status_code == 503:
        assert set(result.json()["error"]) == {"message", "type", "param", "code"}
    return str(result.status_code)


@pytest.mark.parametrize("moment", range(5))
def test_whenever_it_stops_everybody_is_told(pipeline: FakePipeline, moment: int) -> None:
    chance = random.Random(moment)
    pipeline.fake.during = lambda prompts: time.sleep(0.02)
    calls = Background()
    with live_server(lambda *_: pipeline, max_rows=2, shutdown_timeout_seconds=2) as server:
        ready(server)
        for i in range(12):
            steps = chance.choice([4, 100])
            calls.call(partial(post, server, steps=steps, stream=i % 2 == 0))
        wait_until(lambda: server.engine.stats().admitted > 0)
        time.sleep(chance.random() * 0.3)
        began = time.monotonic()
        server.handle_exit(signal.SIGTERM, None)
        ends = [check_end(result) for result in calls.join()]
    assert time.monotonic() - began < 3.5
    assert len(ends) == 12
    # Some may have come when nobody listened any more, but none of those that were taken.
    assert 12 - ends.count("not connected") >= server.engine.stats().admitted > 0


def test_readiness_falls_before_requests_are_refused(pipeline: FakePipeline, gate: Gate) -> None:
    pipeline.fake.during = gate
    calls = Background()
    with live_server(lambda *_: pipeline, shutdown_delay_seconds=0.5) as server:
        ready(server)
        calls.call(lambda: post(server))
        assert gate.entered.wait(SECONDS)
        server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: server.engine.state is EngineState.LEAVING)
        address = f"http://127.0.0.1:{server.bound_port}"
        assert httpx2.get(f"{address}/readyz").status_code == 503
        calls.call(lambda: post(server))
        wait_until(lambda: server.engine.stats().admitted == 2)
        wait_until(lambda: server.engine.state is EngineState.STOPPING)
        refused = post(server)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert refused.headers["connection"] == "close"
        assert httpx2.get(f"{address}/livez").status_code == 200
        gate.opened.set()
        assert [check_end(result) for result in calls.join()] == ["200", "200"]


def test_an_upload_that_does_not_end_holds_nothing_up(pipeline: FakePipeline) -> None:
    with live_server(lambda *_: pipeline, shutdown_timeout_seconds=8) as server:
        ready(server)
        with socket.create_connection(("127.0.0.1", server.bound_port), SECONDS) as upload:
            head = f"POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            upload.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
            wait_until(lambda: len(server.server_state.tasks) == 1)
            began = time.monotonic()
            server.handle_exit(signal.SIGTERM, None)
            answer = b"".join(iter(lambda: upload.recv(1 << 16), b""))
            assert answer.startswith(b"HTTP/1.1 503")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "unavailable"
    assert time.monotonic() - began < 4


def test_a_second_signal_ends_the_grace_and_everybody_is_told(
    pipeline: FakePipeline, gate: Gate
) -> None:
    pipeline.fake.during = gate
    calls = Background()
    with live_server(lambda *_: pipeline, shutdown_timeout_seconds=30) as server:
        ready(server)
        for stream in (False, True):
            calls.call(partial(post, server, stream=stream))
        wait_until(lambda: server.engine.stats().admitted == 2)
        began = time.monotonic()
        server.handle_exit(signal.SIGINT, None)
        wait_until(lambda: server.engine.state is EngineState.STOPPING)
        assert not calls.results
        server.handle_exit(signal.SIGINT, None)
        assert sorted(check_end(result) for result in calls.join()) == ["503", "event: error"]
    assert time.monotonic() - began < 5


def test_who_waits_for_a_job_is_told_whether_it_goes_on(pipeline: FakePipeline, gate: Gate) -> None:
    pipeline.fake.during = gate
    calls = Background()
    with live_server(lambda *_: pipeline) as server:
        ready(server)
        url = f"http://127.0.0.1:{server.bound_port}{URL}"
        with_url, with_key = {"response_format": "url"}, {"idempotency-key": "k"}
        calls.call(partial(post, server, **with_url))
        calls.call(
            lambda: httpx2.post(url, json={"prompt": "cat"}, headers=with_key, timeout=SECONDS)
        )
        wait_until(lambda: server.engine.stats().admitted == 2)
        server.handle_exit(signal.SIGTERM, None)
        results = calls.join()
        gate.opened.set()
    assert [check_end(result) for result in results] == ["503", "503"]
    told = [r.json()["error"]["message"] for r in results if isinstance(r, httpx2.Response)]
    assert sorted(told) == [
        "the server is stopping",
        "the server is stopping; the job goes on after it",
    ]


@pytest.mark.slow
def test_a_process_hears_signals_and_ends_in_time_in_the_middle_of_a_step() -> None:
    environment = {"UNMASK_SHUTDOWN_TIMEOUT_SECONDS": "2", "UNMASK_PORT": "0"}
    command = [sys.executable, "-m", "unmask", "serve"]
    calls = Background()
    lines: list[str] = []
    # Under nohup the process would inherit that it hears no SIGHUP.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with (
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as at_end,
    ):
        signal.signal(signal.SIGHUP, inherited)
        at_end.callback(process.kill)  # a test that fails must not wait for it
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127.0.0.1:\d+", line):
                break
        assert found
        reading = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reading.start()
        with httpx2.Client(base_url=found.group(), timeout=30) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)
            body = {"prompt": "a red apple", "n": 10, "steps": 256}
            calls.call(lambda: client.post(URL, json=body))
            process.send_signal(signal.SIGUSR1)
            wait_until(lambda: any("Current thread" in line for line in lines))
            assert client.get("/livez").status_code == 200
            time.sleep(0.3)  # until it is in a step
            began = time.monotonic()
            process.send_signal(signal.SIGHUP)
            assert process.wait(SECONDS) == 0
            assert time.monotonic() - began < 6
            assert [check_end(result) for result in calls.join()] == ["503"]
        reading.join(SECONDS)
