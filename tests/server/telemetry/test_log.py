"""What the log tells of requests, and what it never tells."""

import io
import json
import logging
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import FakePipeline, Gate, live_server, log_as_it_was, wait_until
from tests.worlds.uploads import IMAGE, file, post
from unmask.server.engine.engine import EngineState
from unmask.server.telemetry.accounts import Account
from unmask.server.telemetry.log import configure_log, log_request, make_formatter
from unmask.settings import LogFormat, Settings

SECRETS = {"prompt": "a secret cat"}


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of the lines of requests."""
    return [vars(record) for record in caplog.records if record.name == "unmask.requests"]


def written(record: logging.LogRecord, log_format: LogFormat) -> str:
    return make_formatter(log_format).format(record)


def test_a_line_has_what_was_drawn_and_how_long_it_took(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    caplog.clear()
    headers = {"x-request-id": "mine"}
    client.post("/v1/images/generations?token=secret", json=SECRETS | {"n": 2}, headers=headers)
    [line] = requests(caplog)
    told = [line[name] for name in ("id", "method", "path", "status", "address", "model", "images")]
    path = "/v1/images/generations"
    assert told == ["mine", "POST", path, 200, "testclient", "storybook", 2]
    parts = line["queue_seconds"] + line["draw_seconds"] + line["answer_seconds"]
    assert 0 < parts <= line["seconds"] + 0.001
    assert not hasattr(line, "key")


def test_all_drawings_of_a_request_are_in_its_line(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    client.post("/sdapi/v1/txt2img", json={"prompt": "cat", "batch_size": 3, "steps": 3})
    line = requests(caplog)[-1]
    assert (line["images"], line["tokens"]) == (3, 3 * 64)


def test_a_zero_stands_in_the_line_and_what_is_not_known_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "unmask")
    of_request = Account(drawn_at=2.0, draw_seconds=1.0, began=1.0)
    log_request({"method": "GET", "path": "/"}, of_request, 200, False, 2.0)
    [line] = requests(caplog)
    assert (line["queue_seconds"], line["answer_seconds"], line["images"]) == (0.0, 0.0, 0)
    assert not {"key", "address", "code", "model", "left"} & set(line)


def test_the_lines_are_json_with_a_time() -> None:
    record = logging.LogRecord("unmask", logging.INFO, "", 1, "a %s", ("text\nhere",), None)
    record.images = 2
    line = json.loads(written(record, "json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {"event": "a text\nhere", "images": 2, "level": "info", "logger": "unmask"}


def test_a_line_for_people_is_one_line() -> None:
    record = logging.LogRecord("uvicorn", logging.INFO, "", 1, "a\nb \x1b[31m", None, None)
    record.color_message = "coloured"
    line = written(record, "text")
    assert r"a\nb \x1b[31m" in line
    assert "coloured" not in line


@pytest.fixture
def configured() -> Iterator[Callable[[Settings], io.StringIO]]:
    """Configures the log as a server does, and gives what is written."""

    def configure(settings: Settings) -> io.StringIO:
        configure_log(settings)
        [handler] = logging.getLogger().handlers
        assert isinstance(handler, logging.StreamHandler)
        stream = io.StringIO()
        handler.setStream(stream)
        return stream

    with log_as_it_was():
        yield configure


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_line_holds_a_prompt_or_a_query_or_a_line_of_its_own(
    client: TestClient,
    pipeline: FakePipeline,
    configured: Callable[[Settings], io.StringIO],
    log_format: LogFormat,
) -> None:
    def fail(prompts: list[str]) -> None:
        local = prompts
        raise ValueError(len(local))

    stream = configured(Settings(log_format=log_format, log_level="debug"))
    pipeline.fake.during = fail
    assert client.post("/v1/images/generations?token=secret", json=SECRETS).status_code == 500
    client.get("/x%0a%1b[31mforged?token=secret")
    lines = stream.getvalue().splitlines()
    # The client of the test has a log too.
    written = "\n".join(line for line in lines if "HTTP Request" not in line)
    assert "ValueError" in written
    assert "/x%0A%1B%5B31mforged" in written
    assert "secret" not in written


def test_libraries_and_warnings_go_the_same_way(
    configured: Callable[[Settings], io.StringIO],
) -> None:
    stream = configured(Settings(log_format="json"))
    logging.getLogger("uvicorn.error").info("Started server")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # pytest has put its own way of warnings over ours
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["uvicorn.error", "py.warnings"]


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
        wait_until(lambda: len(requests(caplog)) == 1)
        gate.opened.set()
    [line] = requests(caplog)
    assert (line["left"], line["address"]) == (True, "127.0.0.1")
    assert line["status"] in (200, 499)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert "Traceback" not in caplog.text


def test_texts_of_pictures_are_not_logged_at_debug_level(
    client: TestClient, configured: Callable[[Settings], io.StringIO]
) -> None:
    stream = configured(Settings(log_level="debug"))
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    picture = file(IMAGE.convert("RGB"), "jpeg", exif=exif)
    assert post(client, image=picture).status_code == 200
    assert logging.getLogger("unmask").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("PIL.TiffImagePlugin").isEnabledFor(logging.DEBUG)
    assert "request" in stream.getvalue()
    assert "taken at home" not in stream.getvalue()
