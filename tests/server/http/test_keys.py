"""Keys over HTTP: who comes in, and what everybody else is told."""

import base64
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tests.worlds.server import CheckFault, FakePipeline, Serve, live_server, wait_until
from unmask.errors import ConfigError
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.tickets import Ticket
from unmask.server.http import door
from unmask.server.http.app import create_app
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import Settings, load_settings

URL = "/v1/images/generations"
CAT = {"prompt": "cat"}
Headers = dict[str, str]


def bearer(key: str) -> Headers:
    return {"authorization": f"Bearer {key}"}


def basic(key: str) -> Headers:
    return {"authorization": "Basic " + base64.b64encode(f"me:{key}".encode()).decode()}


@pytest.fixture(name="keys")
def _keys() -> KeyFile:
    """The file that the settings of these tests name."""
    return KeyFile(load_settings().state_folder)


@pytest.fixture(name="ann")
def _ann(keys: KeyFile) -> str:
    return keys.add("ann", ["draw"], Limits())


@pytest.fixture(name="locked")
def _locked(ann: str, pipeline: FakePipeline, serve: Serve) -> Iterator[TestClient]:
    """A client of a server with keys, which has none itself."""
    with serve(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_without_keys_none_is_needed_on_this_machine(client: TestClient) -> None:
    assert client.post(URL, json=CAT).status_code == 200
    assert client.post(URL, json=CAT, headers=bearer("none")).status_code == 200


@pytest.mark.parametrize("path", [URL, "/v1/models", "/docs", "/openapi.json", "/metrics", "/no"])
@pytest.mark.parametrize("headers", [{}, {"authorization": ""}, {"authorization": "Bearer "}])
def test_with_keys_all_but_the_probes_need_one(
    locked: TestClient, fault: CheckFault, path: str, headers: Headers
) -> None:
    refused = locked.get(path, headers=headers)
    assert fault(refused, 401)["code"] == "missing_api_key"
    scheme = 'Basic realm="unmask"' if path in ("/docs", "/openapi.json") else "Bearer"
    assert refused.headers["www-authenticate"] == scheme
    assert locked.get("/livez", headers=headers).status_code == 200


def test_the_right_key_draws(locked: TestClient, ann: str) -> None:
    assert locked.post(URL, json=CAT, headers=bearer(ann)).status_code == 200
    scheme = {"authorization": f"bearer  {ann}"}
    assert locked.post(URL, json=CAT, headers=scheme).status_code == 200


def test_a_wrong_key_is_told_so_and_not_shown(locked: TestClient, fault: CheckFault) -> None:
    refused = locked.post(URL, json=CAT, headers=bearer("unmask-wrong"))
    assert fault(refused, 401)["code"] == "invalid_api_key"
    assert "unmask-wrong" not in refused.text


def test_who_guesses_keys_waits_and_who_has_one_does_not(
    locked: TestClient, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "FREE_REFUSALS", Limits(requests_per_minute=3))
    monkeypatch.setattr(door, "GUESS_SECONDS", 2.0)

    def seconds(key: str) -> float:
        began = time.monotonic()
        locked.get("/v1/models", headers=bearer(key))
        return time.monotonic() - began

    assert sum(seconds(f"unmask-{number}") for number in range(3)) < 2
    assert seconds("unmask-wrong") >= 2
    assert seconds(ann) < 2


def test_a_wrong_key_is_refused_before_its_body_is_read(locked: TestClient) -> None:
    answer = locked.post(URL, content=b"{", headers=bearer("unmask-wrong"))
    assert answer.status_code == 401


def test_a_password_is_a_key_where_a1111s_clients_ask_only(
    locked: TestClient, fault: CheckFault, ann: str
) -> None:
    assert locked.get("/sdapi/v1/options", headers=basic(ann)).status_code == 200
    wrong = locked.get("/sdapi/v1/options", headers=basic("unmask-wrong"))
    assert fault(wrong, 401)["code"] == "invalid_api_key"
    assert wrong.headers["www-authenticate"].startswith("Basic")
    assert locked.get("/v1/models", headers=basic(ann)).status_code == 401
    broken = {"authorization": "Basic %%%"}
    assert locked.get("/sdapi/v1/options", headers=broken).status_code == 401


def test_a_browser_reads_the_document_with_a_key_as_its_password(
    locked: TestClient, fault: CheckFault, ann: str
) -> None:
    for path in ("/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"):
        assert locked.get(path, headers=basic(ann)).status_code == 200
        assert locked.get(path, headers=bearer(ann)).status_code == 200
        fault(locked.get(path, headers=basic("unmask-wrong")), 401)
    document = locked.get("/openapi.json", headers=basic(ann)).json()
    schemes = document["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {
        "key": "bearer",
        "password": "basic",
    }
    assert document["security"] == [{"key": []}]
    paths = document["paths"]
    assert paths["/livez"]["get"]["security"] == []
    assert paths["/sdapi/v1/txt2img"]["post"]["security"] == [{"key": []}, {"password": []}]
    assert "security" not in paths[URL]["post"]


def test_the_document_of_a_server_without_keys_asks_for_none(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "security" not in document
    assert "securitySchemes" not in document["components"]


def test_a_key_of_another_scope_is_refused(
    locked: TestClient, keys: KeyFile, fault: CheckFault, ann: str
) -> None:
    meter = keys.add("prometheus", ["metrics"], Limits())
    root = keys.add("root", ["admin"], Limits())
    refused = locked.post(URL, json=CAT, headers=bearer(meter))
    error = fault(refused, 403)
    assert error["code"] == "insufficient_permissions"
    assert "'draw'" in str(error["message"])
    assert locked.get("/metrics", headers=bearer(ann)).status_code == 403
    assert locked.get("/metrics", headers=bearer(meter)).status_code == 200
    assert locked.post(URL, json=CAT, headers=bearer(root)).status_code == 200


def test_a_running_server_takes_new_keys_and_forgets_revoked_ones(
    client: TestClient, keys: KeyFile
) -> None:
    assert client.get("/v1/models").status_code == 200
    key = keys.add("bob", ["draw"], Limits())
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers=bearer(key)).status_code == 200
    keys.revoke("bob")
    assert client.get("/v1/models", headers=bearer(key)).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "unmask.example"])
def test_a_server_without_keys_does_not_start_beyond_this_machine(host: str) -> None:
    with pytest.raises(ConfigError, match="unmask keys add NAME"):
        create_app(Settings(host=host))


def test_a_socket_file_is_not_beyond_this_machine(tmp_path: Path) -> None:
    create_app(Settings(host="0.0.0.0", unix_socket=str(tmp_path / "socket")))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_server_without_keys_starts_on_this_machine(host: str) -> None:
    create_app(Settings(host=host))


def test_a_server_with_keys_or_told_to_starts_anywhere(keys: KeyFile) -> None:
    create_app(Settings(host="0.0.0.0", insecure=True))
    create_app(Settings(host="0.0.0.0", api_key=SecretStr("s" * 32)))
    keys.add("ann", ["draw"], Limits())
    create_app(Settings(host="0.0.0.0"))


def test_a_server_that_was_told_to_serves_whoever_asks(
    pipeline: FakePipeline, serve: Serve
) -> None:
    with serve(lambda: pipeline, host="0.0.0.0", insecure=True) as client:
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 401)]
)
def test_another_server_that_listens_beyond_this_machine_lets_nobody_in_without_keys(
    address: str, status: int
) -> None:
    host = f"[{address}]" if ":" in address else address
    with TestClient(create_app(Settings()), base_url=f"http://{host}") as client:
        assert client.get("/openapi.json").status_code == status


def test_the_engine_shares_by_the_name_of_the_key(
    locked: TestClient, keys: KeyFile, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    put = FairQueue.put

    def note(queue: FairQueue, ticket: Ticket) -> None:
        seen.append(ticket.key)
        put(queue, ticket)

    monkeypatch.setattr(FairQueue, "put", note)
    bob = keys.add("bob", ["draw"], Limits())
    for key in (ann, bob):
        assert locked.post(URL, json=CAT, headers=bearer(key)).status_code == 200
    assert seen == ["ann", "bob"]


def test_openais_client_meets_a_missing_a_wrong_and_a_right_key(
    ann: str, pipeline: FakePipeline
) -> None:
    with live_server(lambda key, device: pipeline) as server:
        wait_until(lambda: server.engine.stats().ready_workers == 1)

        @contextlib.contextmanager
        def client(key: str) -> Iterator[openai.OpenAI]:
            url = f"http://127.0.0.1:{server.bound_port}/v1"
            with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as ai:
                yield ai

        with client("unmask-wrong") as ai, pytest.raises(openai.AuthenticationError) as refusal:
            ai.images.generate(prompt="cat")
        assert refusal.value.code == "invalid_api_key"
        assert refusal.value.request_id
        with client(ann) as ai:
            assert ai.images.generate(prompt="cat").data


def test_what_is_wrong_with_a_key_never_reaches_the_log(
    locked: TestClient, ann: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="unmask"):
        locked.get("/v1/models", headers=bearer(ann))
        locked.get("/v1/models", headers=bearer("unmask-wrong"))
    assert ann not in caplog.text
    assert "unmask-wrong" not in caplog.text
