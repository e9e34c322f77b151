import contextlib
import gzip
import logging
import socket
import time

import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import CheckFault, FakePipeline, Gate, Serve, Until
from unmask.errors import RequestError
from unmask.server.http.bodies import read_body
from unmask.server.http.schemas import GenerationBody

URL = "/v1/images/generations"
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"cat"',
        b"7",
        b'{"prompt": "cat", "temperature": NaN}',
        b'{"prompt": "cat", "temperature": -Infinity}',
        b'{"prompt": "cat", "temperature": 1e999}',
        b'{"prompt": "cat", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "cat", "size": NaN}',
        b"[" * 50_000,
        b'{"prompt": ' * 5000 + b"1" + b"}" * 5000,
        b"{" + b",".join(b'"%d": 1' % i for i in range(5000)) + b"}",
        b'{"' + b"x" * 90_000 + b'": 1, "prompt": "cat"}',
    ],
)
def test_a_body_that_is_no_request_is_refused(
    client: TestClient, fault: CheckFault, body: bytes
) -> None:
    fault(client.post(URL, content=body, headers=JSON), 400)


def test_a_refusal_does_not_grow_with_what_is_refused(client: TestClient) -> None:
    body = b'{"' + b"x" * 90_000 + b'": 1, "prompt": "cat"}'
    assert len(client.post(URL, content=body, headers=JSON).content) < 2000


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_refused(client: TestClient, fault: CheckFault, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    error = fault(client.post(URL, content=b'{"prompt": "cat"}', headers=headers), 415)
    assert "application/json" in error["message"]


def test_a_charset_does_no_harm(client: TestClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post(URL, content=b'{"prompt": "cat"}', headers=headers).status_code == 200


def test_unknown_routes_and_methods_are_refused_in_the_envelope(
    client: TestClient, fault: CheckFault
) -> None:
    assert fault(client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert fault(client.get("/v1/models/"), 404)
    refused = client.get(URL)
    assert fault(refused, 405)["code"] == "method_not_allowed"
    assert refused.headers["allow"] == "POST"


def test_a_body_over_the_limit_is_refused_when_announced(
    client: TestClient, fault: CheckFault
) -> None:
    answer = client.post(URL, json={"prompt": "x" * 100_001})
    assert fault(answer, 413)["code"] == "body_too_large"


def test_a_body_over_the_limit_is_refused_while_it_comes(
    client: TestClient, fault: CheckFault
) -> None:
    chunks = (b" " * 10_000 for _ in range(11))
    answer = client.post(URL, content=chunks, headers=JSON)
    assert "content-length" not in answer.request.headers
    assert fault(answer, 413)["code"] == "body_too_large"


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP"])
def test_an_encoded_body_is_refused_by_name(
    client: TestClient, fault: CheckFault, encoding: str
) -> None:
    headers = JSON | {"content-encoding": encoding}
    error = fault(client.post(URL, content=gzip.compress(b"{}"), headers=headers), 415)
    assert encoding.lower() in error["message"]


CHEAP = [
    b'{"prompt": "cat", "mask_shares": [' + b",".join([b'"a"'] * 200_000) + b"]}",
    b'{"prompt": "cat", "subjects": [' + b",".join([b"[]"] * 300_000) + b"]}",
    b"{" + b",".join(b'"%d":1' % i for i in range(90_000)) + b"}",
    b"[" * (1 << 20),
    b'{"prompt": "' + b"\\u0041" * 170_000 + b'"}',
    b'{"prompt": "cat", "seed": ' + b"9" * 1_000_000 + b"}",
    b'{"prompt": "cat"' + b" " * 1_000_000 + b"}",
    b'{"prompt": "cat", "mask_shares": [' + b",".join([b'"a"'] * 4000) + b"]}",
    b'{"prompt": "cat", "subjects": [' + b",".join([b"[{}]"] * 1300) + b"]}",
    b"{" + b",".join(b'"%d":1' % i for i in range(4000)) + b"}",
]


@pytest.mark.parametrize("body", CHEAP, ids=range(len(CHEAP)))
def test_no_cheap_body_costs_more_than_it_may(body: bytes) -> None:
    seconds = []
    for _ in range(3):
        began = time.thread_time()  # whatever else the machine does
        with contextlib.suppress(RequestError):
            read_body(body, GenerationBody)
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.02


def test_an_unexpected_error_is_logged_and_not_told(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(step: list[str]) -> None:
        raise RuntimeError("secret")

    pipeline.fake.during = explode
    with caplog.at_level(logging.ERROR):
        answer = client.post(URL, json={"prompt": "cat"})
    error = fault(answer, 500)
    request_id = answer.headers["x-request-id"]
    assert request_id in error["message"]
    assert "secret" not in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert request_id in caplog.text
    assert "secret" in caplog.text
    pipeline.fake.during = lambda step: None
    assert client.post(URL, json={"prompt": "cat"}).status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 129, False), ("", False)]
)
def test_a_sane_request_id_is_kept_and_another_replaced(
    client: TestClient, given: str, kept: bool
) -> None:
    answer = client.get("/livez", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) == kept
    assert answer.headers["x-request-id"]


def test_a_request_that_takes_too_long_is_given_up(
    serve: Serve, pipeline: FakePipeline, gate: Gate, until: Until, fault: CheckFault
) -> None:
    pipeline.fake.during = gate
    with serve(lambda: pipeline, request_timeout_seconds=0.05) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        answer = client.post(URL, json={"prompt": "cat"})
        assert fault(answer, 504)["code"] == "timeout"
        gate.opened.set()


def test_a_client_that_hangs_up_stops_its_request_at_the_next_step(
    live: int, pipeline: FakePipeline, gate: Gate, until: Until
) -> None:
    pipeline.fake.during = gate
    body = b'{"prompt": "cat", "steps": 50}'
    with socket.create_connection(("127.0.0.1", live)) as connection:
        head = f"POST {URL} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert gate.entered.wait(10)
    # The hang-up is noticed by the event loop, which answers us only after that.
    with socket.create_connection(("127.0.0.1", live)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        while connection.recv(4096):
            pass
    gate.opened.set()
    with socket.create_connection(("127.0.0.1", live)) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert len(pipeline.fake.batches) == 1 + 50
