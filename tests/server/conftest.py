"""What the tests of the engine and of HTTP share; the fakes themselves are in tests.worlds."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.worlds.jobs import OpenEngine
from tests.worlds.postgres import Cluster, cluster
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
from unmask.server.state.database import open_folder, open_url


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


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def open_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenEngine]:
    """Opens a database of the test's own, as a process of its own would, in each kind."""
    engines: list[Engine] = []
    if request.param == "sqlite":
        open_one: OpenEngine = partial(open_folder, tmp_path)
    else:
        open_one = partial(open_url, request.getfixturevalue("postgres").make())

    def open_another() -> Engine:
        engines.append(open_one())
        return engines[-1]

    yield open_another
    for engine in engines:
        engine.dispose()
