"""The front, with replicas that die where a test wants it."""

from collections.abc import AsyncIterator

import pytest
from httpx2 import ASGITransport, AsyncClient
from starlette.types import Message, Scope

from unmask.server.replicas.front import TRIES, Front

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


class Died(Exception):
    pass


class Replicas:
    """So many of them die before they answer; ``late`` ones die in the midst of an answer."""

    def __init__(self, early: int = 0, late: int = 0) -> None:
        self.early, self.late = early, late
        self.asked: list[tuple[Scope, bytes]] = []

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        self.asked.append((scope, body))
        if len(self.asked) <= self.early:
            raise Died
        yield START
        if self.late:
            raise Died
        yield {"type": "http.response.body", "body": body}


def client(replicas: Replicas, most: int = 100) -> AsyncClient:
    front = Front(replicas.answer, Died, most)
    return AsyncClient(transport=ASGITransport(front), base_url="http://front")


@pytest.mark.anyio
@pytest.mark.parametrize("early", range(TRIES))
async def test_another_replica_is_asked_where_one_has_died(early: int) -> None:
    replicas = Replicas(early)
    async with client(replicas) as front:
        answer = await front.post("/a?b=c", content=b"body", headers={"x-name": "value"})
    assert (answer.status_code, answer.content) == (200, b"body")
    assert len(replicas.asked) == early + 1
    scope, body = replicas.asked[-1]
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
    assert replicas.asked[0][1] == b"x" * 11


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
