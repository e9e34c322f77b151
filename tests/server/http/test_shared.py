"""Two servers on one database: limits, keys, jobs and idempotency are those of both."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from tests.worlds.postgres import Cluster
from tests.worlds.server import CheckFault, FakePipeline, serving, wait_until
from unmask.errors import ConfigError
from unmask.server.http.app import create_app
from unmask.server.keys import table
from unmask.server.keys.limits import Limits
from unmask.server.keys.table import KeyTable
from unmask.server.state import state
from unmask.server.state.database import open_url
from unmask.settings import Settings

URL = "/v1/images/generations"
CAT = {"prompt": "cat", "seed": 7}
Two = tuple[TestClient, TestClient]


@contextlib.contextmanager
def two(pipeline: FakePipeline, **options: Any) -> Iterator[Two]:
    with (
        serving(lambda: pipeline, **options) as first,
        serving(lambda: pipeline, **options) as other,
    ):
        for client in (first, other):
            wait_until(lambda: client.get("/readyz").status_code == 200)  # noqa: B023  # at once
        yield first, other


def test_two_servers_share_one_limit(
    pipeline: FakePipeline, shared: dict[str, Any], fault: CheckFault
) -> None:
    with two(pipeline, requests_per_minute=3, **shared) as (first, other):
        left = []
        for client in (first, other, first):
            answer = client.post(URL, json=CAT)
            assert answer.status_code == 200
            left.append(answer.headers["x-ratelimit-remaining-requests"])
        assert left == ["2", "1", "0"]
        for client in (first, other):
            refused = client.post(URL, json=CAT)
            assert "3 requests a minute" in str(fault(refused, 429)["message"])
            assert int(refused.headers["retry-after"]) > 0
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_job_of_one_is_read_at_the_other_and_the_same_key_is_drawn_once(
    pipeline: FakePipeline, shared: dict[str, Any]
) -> None:
    key = {"idempotency-key": "k"}
    with two(pipeline, **shared) as (first, other):
        answers = [client.post(URL, json=CAT, headers=key).json() for client in (first, other)]
        assert answers[0] == answers[1]
        assert len(pipeline.drawn) == 1
        job = first.post(URL, json=CAT, headers={"prefer": "respond-async"}).json()

        def ended() -> bool:
            found: bool = other.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed"
            return found

        wait_until(ended)
        done = other.get(f"/v1/jobs/{job['id']}").json()
        assert other.get(done["result"]["data"][0]["url"]).status_code == 200


def test_a_key_lets_in_at_both_until_it_is_revoked(
    pipeline: FakePipeline, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "FOLLOW_SECONDS", 0.05)
    database = SecretStr(postgres.make())
    engine = open_url(database.get_secret_value())
    keys = KeyTable(lambda: engine)
    text = keys.add("ann", ["draw"], Limits())
    bearer = {"authorization": f"Bearer {text}"}
    with two(pipeline, database=database) as (first, other):
        for client in (first, other):
            assert client.get("/v1/models").status_code == 401
            assert client.get("/v1/models", headers=bearer).status_code == 200
        keys.revoke("ann")
        for client in (first, other):
            wait_until(
                lambda: client.get("/v1/models", headers=bearer).status_code == 401  # noqa: B023
            )
    engine.dispose()


def test_without_the_database_the_rest_goes_on_and_all_of_it_does_when_it_is_back(
    pipeline: FakePipeline, postgres: Cluster, fault: CheckFault
) -> None:
    database = SecretStr(postgres.make())
    with two(pipeline, database=database, requests_per_minute=100) as (client, _):
        assert client.post(URL, json=CAT).status_code == 200
        postgres.stop()
        for answer in (
            client.post(URL, json=CAT),  # its limits are there
            client.post(URL, json=CAT, headers={"prefer": "respond-async"}),
            client.get("/v1/jobs"),
            client.get("/v1/jobs/job_1"),
        ):
            assert fault(answer, 503)["code"] == "unavailable"
            assert int(answer.headers["retry-after"]) > 0
        for path in ("/v1/models", "/livez", "/readyz", "/"):
            assert client.get(path).status_code == 200
        postgres.start()
        wait_until(lambda: client.post(URL, json=CAT).status_code == 200)
        assert client.get("/v1/jobs").status_code == 200


def test_a_server_waits_for_its_database_and_then_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    monkeypatch.setattr(state, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(state, "LOOK_SECONDS", 0.1)
    settings = Settings(database=SecretStr("postgresql://me:secret@127.0.0.1:1/name"))
    with pytest.raises(ConfigError, match=r"UNMASK_DATABASE: .*0\.5 s.*refused") as refusal:
        create_app(settings)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
