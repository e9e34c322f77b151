"""What the tests of the engine and of HTTP share; the fakes themselves are in tests.worlds."""

import json
from collections.abc import Iterator

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import (
    CheckFault,
    FakePipeline,
    Fault,
    Gate,
    Serve,
    Until,
    live_server,
    serving,
    wait_until,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def until() -> Until:
    return wait_until


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def serve() -> Serve:
    """Makes a client from a load function and settings, without waiting for the model."""
    return serving


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def client(pipeline: FakePipeline) -> Iterator[TestClient]:
    with serving(lambda: pipeline, max_queue=4, max_body_bytes=100_000) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def live(pipeline: FakePipeline) -> Iterator[int]:
    """The port of a real server on this machine."""
    with live_server(lambda key, device: pipeline, max_queue=1, max_rows=1) as server:
        yield server.bound_port


@pytest.fixture
def fault() -> CheckFault:
    """Checks that an answer is a refusal in the envelope, and gives what is in it."""

    def check(
        answer: httpx2.Response, status: int | None = None, param: str | None = None
    ) -> Fault:
        assert status in (None, answer.status_code), answer.text
        assert set(json.loads(answer.content)) == {"error"}
        error: Fault = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert "Traceback" not in error["message"]
        assert param in (None, error["param"])
        assert answer.headers["x-request-id"]
        return error

    return check
