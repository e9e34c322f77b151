"""Limits over HTTP: 429 in the envelope, and where a sender stands on every answer."""

import threading
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import SECONDS, CheckFault, FakePipeline, Gate, live_server, wait_until
from tests.worlds.server import serving as serve
from unmask.server.http import door
from unmask.server.http.server import Server
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import load_settings

URL = "/v1/images/generations"
CAT = {"prompt": "cat"}
TOKENS = 64  # of a picture of the fake pipeline


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(name="limited")
def _limited(pipeline: FakePipeline) -> Iterator[TestClient]:
    with serve(lambda: pipeline, requests_per_minute=3, tokens_per_day=4 * TOKENS) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_an_answer_tells_what_is_left(limited: TestClient) -> None:
    answer = limited.post(URL, json=CAT)
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-limit-requests"] == "3"
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    assert answer.headers["x-ratelimit-limit-tokens"] == str(4 * TOKENS)
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(3 * TOKENS)


def test_a_stream_tells_what_is_left(limited: TestClient) -> None:
    answer = limited.post(URL, json=CAT | {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(3 * TOKENS)


def test_too_many_requests_are_refused_until_a_told_time(
    limited: TestClient, fault: CheckFault
) -> None:
    for body in (CAT, {"prompt": 7}, CAT):  # what is no request counts too
        limited.post(URL, json=body)
    refused = limited.post(URL, json=CAT)
    error = fault(refused, 429)
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert "3 requests a minute" in str(error["message"])
    assert 0 < int(refused.headers["retry-after"]) <= 120
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_who_is_refused_too_often_waits_for_it_and_nobody_else_does(
    limited: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "FREE_REFUSALS", Limits(requests_per_minute=2))
    monkeypatch.setattr(door, "LIMIT_SECONDS", 1.0)

    def seconds(path: str) -> float:
        began = time.monotonic()
        limited.post(path, json=CAT)
        return time.monotonic() - began

    assert sum(seconds(URL) for _ in range(5)) < 1  # three drawings, and two refusals
    assert seconds(URL) >= 1
    assert seconds("/v1/models") < 1


def test_too_many_tokens_are_refused(limited: TestClient, fault: CheckFault) -> None:
    assert limited.post(URL, json=CAT | {"n": 3}).status_code == 200
    refused = limited.post(URL, json=CAT | {"n": 2})
    assert "256 tokens a day" in str(fault(refused, 429)["message"])
    assert refused.headers["retry-after"]
    never = limited.post(URL, json=CAT | {"n": 5})
    assert fault(never, 400, "n")["code"] == "invalid_value"


def test_asking_for_other_things_is_not_counted(limited: TestClient) -> None:
    for _ in range(10):
        answer = limited.get("/v1/models")
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-remaining-requests"] == "3"


def test_without_bounds_there_are_no_such_headers(client: TestClient) -> None:
    answer = client.post(URL, json=CAT)
    assert [name for name in answer.headers if name.startswith("x-ratelimit")] == []


@pytest.fixture(name="server")
def _server(pipeline: FakePipeline) -> Iterator[Server]:
    with live_server(lambda key, device: pipeline, jobs_at_once=2) as server:
        wait_until(lambda: server.engine.stats().ready_workers == 1)
        yield server


def test_a_key_has_limits_of_its_own_and_uses_up_no_others(
    server: Server, pipeline: FakePipeline, gate: Gate
) -> None:
    file = KeyFile(load_settings().state_folder)
    ann = file.add("ann", ["draw"], Limits(jobs_at_once=1))
    bob = file.add("bob", ["draw"], Limits())
    url = f"http://127.0.0.1:{server.bound_port}{URL}"
    pipeline.fake.during = gate
    answers: list[httpx2.Response] = []

    def draw() -> None:
        answers.append(httpx2.post(url, json=CAT, headers=bearer(ann), timeout=SECONDS))

    first = threading.Thread(target=draw)
    first.start()
    assert gate.entered.wait(SECONDS)
    refused = httpx2.post(url, json=CAT, headers=bearer(ann))
    assert refused.status_code == 429
    assert "at once: you may have 1" in refused.text
    assert refused.headers["retry-after"] == "1"
    gate.opened.set()
    first.join()
    assert httpx2.post(url, json=CAT, headers=bearer(bob)).status_code == 200
    assert answers[0].status_code == 200
    assert httpx2.post(url, json=CAT, headers=bearer(ann)).status_code == 200


def test_a_client_that_hangs_up_gives_its_place_back(
    server: Server, pipeline: FakePipeline, gate: Gate
) -> None:
    url = f"http://127.0.0.1:{server.bound_port}{URL}"
    pipeline.fake.during = gate
    for _ in range(2):
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(url, json=CAT, timeout=0.3)
    gate.opened.set()
    wait_until(lambda: httpx2.post(url, json=CAT).status_code == 200)


def test_openais_client_sees_a_rate_limit(pipeline: FakePipeline) -> None:
    with live_server(lambda key, device: pipeline, requests_per_minute=1) as server:
        wait_until(lambda: server.engine.stats().ready_workers == 1)
        url = f"http://127.0.0.1:{server.bound_port}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as ai:
            raw = ai.images.with_raw_response.generate(prompt="cat")
            assert raw.headers["x-ratelimit-remaining-requests"] == "0"
            with pytest.raises(openai.RateLimitError, match="1 requests a minute") as refusal:
                ai.images.generate(prompt="cat")
            assert refusal.value.code == "rate_limit_exceeded"
