"""How ``unmask serve`` ends: as a process of its own, at a real address."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.worlds.commands import called

SECONDS = 60  # no start or end here takes as long
# A server whose model takes an hour to load, in torch's own code, where no thread can be stopped.
SLOW = """
import sys, time, torch
from unmask.commands import run
from unmask.pipeline import Pipeline

def load(*arguments, **options):
    print("loading", flush=True)
    weights, end = torch.rand(200, 200), time.monotonic() + 3600
    while time.monotonic() < end:
        weights = torch.stack([torch.sigmoid(weights @ row) for row in weights])

Pipeline.load = load
sys.argv[0] = "unmask"
run()
"""


@pytest.fixture(name="taken_port")
def _taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _serve(*arguments: str, code: str | None = None, **variables: str) -> subprocess.Popen[str]:
    start = ["-m", "unmask"] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *start, "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "UNMASK_PORT": "0", "OMP_NUM_THREADS": "1", **variables},
    )


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what it said on stderr."""
    try:
        _, said = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (("--host", "no-such-host.invalid"), {}, 1, "cannot listen on no-such-host.invalid"),
        (("storybok-64",), {}, 2, "did you mean 'storybook'"),
        (("--device", "cuda:99"), {}, 2, "UNMASK_DEVICE: device 'cuda:99' cannot be used here"),
        (("--device", "bogus"), {}, 2, "device 'bogus' cannot be used here"),
        ((), {"UNMASK_MORE_DEVICES": '["cuda:99"]'}, 2, "UNMASK_MORE_DEVICES: device 'cuda:99'"),
        ((), {"UNMASK_MORE_MODELS": "foo"}, 2, "UNMASK_MORE_MODELS: give a JSON list"),
        (("--adapter", "nope.safetensors"), {}, 2, "UNMASK_ADAPTERS: adapter 'nope.safetensors'"),
        ((), {"UNMASK_MORE_MODELS": '["nope"]'}, 2, "UNMASK_MORE_MODELS: model 'nope': neither"),
        (("tests",), {}, 2, "tests"),
        ((), {"UNMASK_DEVCE": "cpu"}, 2, "did you mean 'UNMASK_DEVICE'"),
    ],
)
def test_what_cannot_be_ends_the_start_in_one_line(
    arguments: tuple[str, ...], variables: dict[str, str], code: int, words: str
) -> None:
    ended, said = _ended(_serve(*arguments, **variables))
    assert said.startswith("unmask: ")
    assert words in said
    assert said.count("\n") == 1
    assert ended == code


def test_a_taken_port_ends_the_start_in_one_line(taken_port: int) -> None:
    ended, said = _ended(_serve("--port", str(taken_port)))
    assert said.startswith(f"unmask: cannot listen on 127.0.0.1, port {taken_port}: ")
    assert said.count("\n") == 1
    assert ended == 1


def test_a_server_answers_while_it_starts_and_never_refuses_a_connection_after_that() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _serve("--port", str(port), "--log-level", "critical", code=SLOW)
    reasons: list[str] = []
    try:
        end = time.monotonic() + SECONDS
        while len(reasons) < 2 and time.monotonic() < end:
            try:
                answer = httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=SECONDS)
            except httpx2.ConnectError:
                assert not reasons
                time.sleep(0.01)
                continue
            assert answer.status_code == 503
            reason = answer.json()["error"]["message"]
            reasons += [reason] if reason not in reasons else []
    finally:
        process.kill()
        process.communicate()
    assert reasons[0] == "the server is starting"
    assert "load" in reasons[1]


def test_nobody_listens_where_a_start_has_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert called(monkeypatch, "serve", "storybok-64", "--port", port) == 2
    assert "did you mean 'storybook'" in capsys.readouterr().err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_ctrl_c_while_the_model_loads_is_one_line_and_130() -> None:
    process = _serve("--log-level", "critical", code=SLOW)
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert _ended(process) == (130, "unmask: interrupted\n")
