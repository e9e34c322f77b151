"""What the log tells of requests, and what it never tells."""

import logging
import re
import socket
import time

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import FakePipeline, Gate, live_server, wait_until
from tests.worlds.uploads import IMAGE, file, post
from unmask.server.engine.engine import EngineState
from unmask.server.http.log import FORMAT, TIME, configure_log
from unmask.settings import Settings

LINE = re.compile(
    r"\w{32} POST /v1/images/\w+ (200|499) \d+\.\d{3} s from 127\.0\.0\.1, which left"
)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "unmask.requests"]


def test_a_line_has_id_route_status_and_duration_but_no_query(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    caplog.clear()
    headers = {"x-request-id": "mine"}
    client.post("/v1/images/generations?token=secret", json={"prompt": "a cat"}, headers=headers)
    client.get("/x%0a%1b[31mforged?token=secret")
    drawn, lost = (line for line in lines(caplog) if "testclient" in line)
    assert re.fullmatch(r"mine POST /v1/images/generations 200 \d+\.\d{3} s from testclient", drawn)
    assert " GET /x%0A%1B%5B31mforged 404 " in lost
    told = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("httpx")
    )  # the client of the test has a log too
    assert "secret" not in told
    assert "a cat" not in told


def test_lines_have_a_time() -> None:
    record = logging.LogRecord("unmask", logging.INFO, "", 1, "text", None, None)
    text = logging.Formatter(FORMAT, TIME).format(record)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} INFO unmask: text", text)


@pytest.mark.parametrize(
    ("path", "kind", "body", "missing"),
    [
        ("generations", "application/json", b'{"prompt": "cat"}', 0),
        ("generations", "application/json", b'{"prompt": "cat", "stream": true}', 0),
        ("generations", "application/json", b'{"prompt": ', 100),
        ("edits", "multipart/form-data; boundary=x", b"--x\r\n", 100),
    ],
)
def test_a_client_that_leaves_makes_one_line_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
    pipeline: FakePipeline,
    gate: Gate,
    path: str,
    kind: str,
    body: bytes,
    missing: int,
) -> None:
    caplog.set_level(logging.DEBUG, "unmask")
    pipeline.fake.during = gate
    with live_server(lambda key, device: pipeline) as server:
        wait_until(lambda: server.engine.state is EngineState.READY)
        with socket.create_connection(("127.0.0.1", server.bound_port)) as client:
            head = f"POST /v1/images/{path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n"
            head += f"content-length: {len(body) + missing}\r\n\r\n"
            client.sendall(head.encode() + body)
            if not missing:
                wait_until(gate.entered.is_set)
            time.sleep(0.1)  # so that a stream has begun
        wait_until(lambda: len(lines(caplog)) == 1)
        gate.opened.set()
    [line] = lines(caplog)
    assert LINE.fullmatch(line), line
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert "Traceback" not in caplog.text


def test_texts_of_pictures_are_not_logged_at_debug_level(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    root, ours = logging.getLogger(), logging.getLogger("unmask")
    before = root.level, ours.level
    try:
        configure_log(Settings(log_level="debug"))
        exif = Image.Exif()
        exif[0x010E] = "taken at home"
        picture = file(IMAGE.convert("RGB"), "jpeg", exif=exif)
        assert post(client, image=picture).status_code == 200
        assert ours.isEnabledFor(logging.DEBUG)
        assert not logging.getLogger("PIL.TiffImagePlugin").isEnabledFor(logging.DEBUG)
        assert "taken at home" not in caplog.text
    finally:
        root.setLevel(before[0])
        ours.setLevel(before[1])
        for handler in root.handlers:
            handler.filters.clear()
