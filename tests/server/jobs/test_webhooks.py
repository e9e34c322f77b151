"""Webhooks: signed as Standard Webhooks has it, to public addresses alone, again until heard."""

import asyncio
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.worlds.jobs import OpenEngine, new_job
from tests.worlds.server import CheckFault, FakePipeline, Serve, wait_until
from unmask.errors import RequestError
from unmask.server.jobs import webhooks
from unmask.server.jobs.store import JobStore
from unmask.server.jobs.webhooks import Caller, Hooks, check_url, is_public, signature

# A key made for these tests, and its certificate for hooks.example: nothing trusts it but they.
PEM = Path(__file__).parents[2] / "worlds" / "hooks.example.pem"


class Receiver:
    """A server of TLS on this machine that notes what it is told."""

    def __init__(self) -> None:
        self.status, self.heard = 200, list[tuple[dict[str, str], str]]()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.heard.append((headers, body))
                self.send_response(receiver.status)
                self.send_header("location", "https://127.0.0.1/")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://hooks.example:{self.server.server_address[1]}/jobs?a=b"


@pytest.fixture(name="receiver")
def _receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,))
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


class World:
    def __init__(self, engine: Engine) -> None:
        self.store, self.hooks = JobStore(engine, 3600, 1 << 20), Hooks(engine)

    def end(self, job_id: str, owner: str = "ann") -> None:
        self.store.add(new_job(owner), job_id)
        self.store.cancel(job_id)

    def call(self, *, public_only: bool = False) -> int:
        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        caller = Caller(
            self.hooks,
            resolve=resolve,
            context=ssl.create_default_context(cafile=str(PEM)),
            is_allowed=is_public if public_only else lambda _: True,
        )
        return asyncio.run(caller.call_due())


@pytest.fixture(name="world")
def _world(open_engine: OpenEngine) -> World:
    return World(open_engine())


def test_a_signature_is_that_of_the_standard() -> None:
    given = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        '{"test": 2432232314}',
    )
    assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_end_is_told_once_signed_and_by_name(world: World, receiver: Receiver) -> None:
    secret = world.hooks.put("ann", receiver.url)
    world.end("job_1")
    world.end("job_2", owner="bob")
    assert world.call() == 1
    (headers, body), *rest = receiver.heard
    assert rest == []
    assert headers["host"] == receiver.url.split("/")[2]
    event = json.loads(body)
    assert (event["type"], event["data"]) == ("job.cancelled", {"id": "job_1"})
    signed = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == signature(secret, headers["webhook-id"], signed, body)
    assert world.call() == 0


def test_who_does_not_hear_is_told_again_with_the_same_id(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (0, 0, 0))
    world.hooks.put("ann", receiver.url)
    world.end("job_1")
    receiver.status = 302  # a redirect is no answer, and is not followed
    for _ in range(3):
        assert world.call() == 1
    receiver.status = 200
    assert world.call() == 1
    assert world.call() == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    assert len(receiver.heard) == 4


def test_who_never_hears_is_given_up(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (0, 0))
    world.hooks.put("ann", receiver.url)
    world.end("job_1")
    receiver.status = 500
    assert [world.call() for _ in range(5)] == [1, 1, 1, 0, 0]


def test_who_is_gone_is_called_no_more(world: World, receiver: Receiver) -> None:
    world.hooks.put("ann", receiver.url)
    world.end("job_1")
    receiver.status = 410
    assert world.call() == 1
    assert world.hooks.find("ann") is None


def test_a_name_of_a_private_address_is_never_called(world: World, receiver: Receiver) -> None:
    world.hooks.put("ann", receiver.url)
    world.end("job_1")
    assert world.call(public_only=True) == 1
    assert receiver.heard == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https:///path",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://me:secret@example.org/",
        "https://example.org/#part",
        "https://example.org/a b",
        "https://example.org:99999/",
        "https://example.org/" + "a" * 2000,
    ],
)
def test_what_is_never_called_is_refused(url: str) -> None:
    with pytest.raises(RequestError) as refusal:
        check_url(url)
    assert refusal.value.param == "url"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fe80::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_public_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_webhook_is_its_owners_and_off_by_default(
    client: TestClient, pipeline: FakePipeline, serve: Serve, fault: CheckFault
) -> None:
    body = {"url": "https://example.org/hook"}
    assert fault(client.put("/v1/webhook", json=body), 404)["code"] == "webhook_not_found"
    with serve(lambda: pipeline, webhooks=True) as other:
        wait_until(lambda: other.get("/readyz").status_code == 200)
        first = other.put("/v1/webhook", json=body).json()
        assert first["secret"].startswith("whsec_")
        assert other.put("/v1/webhook", json=body).json()["secret"] != first["secret"]
        assert other.get("/v1/webhook").json() == {"object": "webhook", **body}
        fault(other.put("/v1/webhook", json={"url": "http://example.org"}), 400, "url")
        assert other.delete("/v1/webhook").status_code == 204
        fault(other.get("/v1/webhook"), 404)
