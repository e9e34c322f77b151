"""Connections that are silent, slow, many, or speak no HTTP."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator

import pytest

from tests.worlds.server import SECONDS, FakePipeline, Gate, live_server, wait_until
from unmask.server.http import door
from unmask.server.http.server import Server
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.server.telemetry.log import OncePerSecond
from unmask.settings import load_settings

URL = "/v1/images/generations"
HEAD = f"POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture(name="server")
def _server(pipeline: FakePipeline) -> Iterator[Server]:
    """A server of few connections and little patience."""
    with live_server(
        lambda key, device: pipeline, max_connections=8, read_timeout_seconds=0.3
    ) as server:
        wait_until(lambda: server.engine.stats().ready_workers == 1)
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.bound_port), timeout=SECONDS)


def read_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def talk(server: Server, sent: bytes) -> bytes:
    with connect(server) as connection:
        connection.sendall(sent)
        return read_all(connection)


def error(answer: bytes) -> dict[str, str | None]:
    """What is in the envelope of a raw answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: " in head
    detail: dict[str, str | None] = json.loads(body)["error"]
    assert set(detail) == {"message", "type", "param", "code"}
    return detail


def live(server: Server) -> bool:
    answer = talk(server, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    return answer.startswith(b"HTTP/1.1 200")


def test_a_connection_that_sends_nothing_is_closed(server: Server) -> None:
    with connect(server) as silent:
        assert read_all(silent) == b""


def test_a_head_that_does_not_end_is_answered_and_closed(server: Server) -> None:
    with connect(server) as slow:
        for _ in range(3):
            slow.sendall(b"GET /livez HTTP/1.1\r\nx-slow: a\r\n"[:5])
            time.sleep(0.05)
        answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 408")
    assert error(answer)["code"] == "request_timeout"


def test_bytes_that_drip_do_not_keep_a_head_alive(server: Server) -> None:
    began = time.monotonic()
    with connect(server) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\nx-slow: ")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 2:
                slow.sendall(b"a")
                time.sleep(0.02)
    assert time.monotonic() - began < 1.5


def test_a_body_that_stops_is_answered_and_closed(server: Server) -> None:
    answer = talk(server, f"{HEAD}content-length: 1000\r\n\r\n{{".encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert error(answer)["code"] == "request_timeout"


def test_a_request_that_takes_long_to_draw_is_not_cut_off(
    server: Server, pipeline: FakePipeline
) -> None:
    pipeline.fake.during = lambda prompts: time.sleep(0.3)
    body = b'{"prompt": "cat", "steps": 3}'
    sent = f"{HEAD}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    assert talk(server, sent).startswith(b"HTTP/1.1 200")


def test_many_silent_connections_keep_nobody_out(server: Server) -> None:
    silent = [connect(server) for _ in range(40)]
    assert all(live(server) for _ in range(5))
    assert len(server.server_state.connections) <= 9
    for connection in silent:
        connection.close()


def test_connections_that_are_being_answered_make_no_room(
    server: Server, pipeline: FakePipeline, gate: Gate
) -> None:
    pipeline.fake.during = gate
    body = b'{"prompt": "cat"}'
    sent = f"{HEAD}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    busy = [connect(server) for _ in range(8)]
    for connection in busy:
        connection.sendall(sent)
    assert gate.entered.wait(SECONDS)
    wait_until(lambda: server.engine.stats().admitted == 8)
    refused = talk(server, b"")
    assert refused.startswith(b"HTTP/1.1 503")
    assert error(refused)["code"] == "unavailable"
    gate.opened.set()
    assert all(read_all(connection).startswith(b"HTTP/1.1 200") for connection in busy)
    for connection in busy:
        connection.close()


def test_connections_whose_answers_wait_make_room(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "FREE_REFUSALS", Limits(requests_per_minute=1))
    KeyFile(load_settings().state_folder).add("ann", ["draw"], Limits())
    wrong = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n\r\n"
    held = [connect(server) for _ in range(9)]
    for connection in held:
        connection.sendall(wrong)
    assert all(live(server) for _ in range(5))
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10,
    ],
)
def test_what_is_no_http_is_refused_in_the_envelope(server: Server, sent: bytes) -> None:
    answer = talk(server, sent)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert error(answer)["code"] == "bad_request"


@pytest.mark.parametrize("path", ["/livez", URL])
def test_a_length_beside_a_transfer_encoding_is_refused_and_the_connection_closed(
    server: Server, path: str
) -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = talk(
        server,
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n".encode()
        + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        + smuggled,
    )
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert "exclude each other" in str(error(answer)["message"])


def test_a_fault_that_comes_again_and_again_is_logged_once_a_second() -> None:
    written: list[str] = []

    class Written(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    handler, log = Written(), logging.getLogger("tests.often")
    handler.addFilter(OncePerSecond())
    log.addHandler(handler)
    log.propagate = False
    for number in range(1000):
        log.warning("fault %d", number)
        log.error("another")
    assert written == ["fault 0", "another"]
    time.sleep(1.01)
    log.warning("fault %d", 7)
    assert written[2:] == ["fault 7 (and 999 more like this)"]


def test_access_is_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(OncePerSecond())
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            logging.getLogger("tests.access").info("GET")
    assert len(caplog.records) == 3
