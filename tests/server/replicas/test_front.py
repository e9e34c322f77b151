"""The front, with replicas that die where a test wants it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient
from starlette.types import Message, Scope

from unmask.server.replicas.front import TRIES, Front, Told

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


class Died(Exception):
    pass


class Replicas:
    """So many of them die before they answer; ``late`` ones die in the midst of an answer. Each
    waits so many ``seconds`` before an answer begins, and within it."""

    def __init__(self, early: int = 0, late: int = 0, seconds: tuple[float, float] = (0, 0)):
        self.early, self.late, self.seconds = early, late, seconds
        self.asked: list[tuple[str, Scope, bytes]] = []
        self.status = 200

    async def answer(self, model: str, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        self.asked.append((model, scope, body))
        await asyncio.sleep(self.seconds[0])
        if len(self.asked) <= self.early:
            raise Died
        yield START
        await asyncio.sleep(self.seconds[1])
        if self.late:
            raise Died
        yield {"type": "http.response.body", "body": body}

    async def tell(self, scope: Scope) -> list[Told]:
        texts = (b'# TYPE rows gauge\nrows{model="a"} 1.0\n', b"# TYPE rows gauge\nrows 2.0\n")
        return [Told(f"r{i}", self.status, text) for i, text in enumerate(texts)]


def client(replicas: Replicas, most: int = 100, seconds: float = 10.0) -> AsyncClient:
    front = Front(replicas.answer, replicas.tell, (Died,), most_bytes=most, seconds=seconds)
    return AsyncClient(transport=ASGITransport(front), base_url="http://front")


@pytest.mark.anyio
@pytest.mark.parametrize("early", range(TRIES))
async def test_another_replica_is_asked_where_one_has_died(early: int) -> None:
    replicas = Replicas(early)
    async with client(replicas) as front:
        answer = await front.post("/a?b=c", content=b"body", headers={"x-name": "value"})
    assert (answer.status_code, answer.content) == (200, b"body")
    assert len(replicas.asked) == early + 1
    _, scope, body = replicas.asked[-1]
    assert body == b"body"
    assert (scope["path"], scope["query_string"]) == ("/a", b"b=c")
    assert (b"x-name", b"value") in scope["headers"]


@pytest.mark.anyio
async def test_who_finds_no_replica_is_told_when_to_ask_again() -> None:
    replicas = Replicas(early=TRIES)
    async with client(replicas) as front:
        answer = await front.get("/")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["code"] == "unavailable"


@pytest.mark.anyio
async def test_an_answer_that_was_begun_is_not_begun_again() -> None:
    replicas = Replicas(late=1)
    async with client(replicas) as front:
        with pytest.raises(Died):
            await front.get("/")
    assert len(replicas.asked) == 1


@pytest.mark.anyio
async def test_of_a_large_body_no_more_is_held_than_shows_that_it_is_too_large() -> None:
    replicas = Replicas()
    async with client(replicas, most=10) as front:
        await front.post("/", content=b"x" * 1000)
    assert replicas.asked[0][2] == b"x" * 11


@pytest.mark.anyio
async def test_who_waits_too_long_for_a_replica_is_told_when_to_ask_again() -> None:
    async with client(Replicas(seconds=(30, 0)), seconds=0.02) as front:
        answer = await front.get("/")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "in time" in answer.json()["error"]["message"]


@pytest.mark.anyio
async def test_an_answer_that_was_begun_may_take_its_time() -> None:
    async with client(Replicas(seconds=(0, 0.1)), seconds=0.02) as front:
        answer = await front.post("/", content=b"body")
    assert (answer.status_code, answer.content) == (200, b"body")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "model"),
    [
        ({"json": {"prompt": "a cat", "model": "b/large", "n": 1}}, "b/large"),
        ({"data": {"prompt": "a cat", "model": "large"}, "files": {"image": b"x"}}, "large"),
        ({"json": {"prompt": 'the "model": "none" of it'}}, ""),
        ({"content": b""}, ""),
    ],
)
async def test_the_router_hears_which_model_is_asked_for(sent: dict[str, Any], model: str) -> None:
    replicas = Replicas()
    async with client(replicas, most=1000) as front:
        await front.post("/", **sent)
    assert replicas.asked[0][0] == model


@pytest.mark.anyio
async def test_metrics_are_those_of_all_replicas() -> None:
    replicas = Replicas()
    async with client(replicas) as front:
        answer = await front.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert answer.text.count("# TYPE rows gauge") == 1
        lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
        assert lines == ['rows{model="a",replica="r0"} 1.0', 'rows{replica="r1"} 2.0']
        assert replicas.asked == []
        replicas.status = 401  # then one tells what is wrong
        assert (await front.get("/metrics")).content == b""
    assert len(replicas.asked) == 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
