"""What the tests of the engine and of HTTP share; the fakes themselves are in tests.worlds."""

import json
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
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
from unmask.server.state.state import State
from unmask.settings import Settings


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


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server that speaks as S3 does."""
    moto = pytest.importorskip("moto.server", reason="needs moto, and the extra s3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where files may be in a bucket of the test's own, as the setting has it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = uuid.uuid4().hex
    assert httpx2.put(f"{s3}/{name}").status_code == 200
    return f"s3://{name}/prefix"


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of servers that share a database of the test's own, in each kind."""
    if request.param == "sqlite":
        return {"state_dir": tmp_path / "shared", "limits": "database"}
    address = request.getfixturevalue("postgres").make()
    return {"state_dir": tmp_path / "shared", "database": SecretStr(address)}


@pytest.fixture
def open_engine(shared: dict[str, Any]) -> Iterator[OpenEngine]:
    """Opens the database, as a process of its own would."""
    engines: list[Engine] = []
    if "database" in shared:
        open_one: OpenEngine = partial(open_url, shared["database"].get_secret_value())
    else:
        open_one = partial(open_folder, shared["state_dir"])

    def open_another() -> Engine:
        engines.append(open_one())
        return engines[-1]

    yield open_another
    for engine in engines:
        engine.dispose()


@pytest.fixture
def open_state(shared: dict[str, Any]) -> Iterator[Callable[[], State]]:
    """Opens the state, as a process of its own would."""
    states: list[State] = []

    def open_another() -> State:
        states.append(State(Settings(**shared)))
        return states[-1]

    yield open_another
    for state in states:
        state.close()
