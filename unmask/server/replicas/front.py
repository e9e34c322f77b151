"""The front: takes requests and asks a replica, and another one if that has died."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from unmask.server.http.errors import error_response
from unmask.server.replicas.gathered import gathered
from unmask.server.telemetry.metrics import CONTENT_TYPE

# Gives the messages of a replica's answer to a request for a model, whose body is the last.
Ask = Callable[[str, Scope, bytes], AsyncIterator[Message]]


@dataclass(frozen=True)
class Told:
    """The whole answer of one replica, and the replica's name."""

    name: str
    status: int
    body: bytes


AskAll = Callable[[Scope], Awaitable[list[Told]]]  # those that are there

METRICS = "/metrics"
TRIES = 3
RETRY_SECONDS = 5
# What a replica is told of a request; the rest cannot leave the process.
ASKED = frozenset(
    (
        "type",
        "asgi",
        "http_version",
        "method",
        "scheme",
        "path",
        "raw_path",
        "query_string",
        "root_path",
        "headers",
        "client",
        "server",
    )
)
# The model of a body in JSON, or of a form. What else looks like it costs no more than a replica
# that has to load the model.
MODEL = re.compile(
    rb'"model"\s*:\s*"([^"\\]{1,200})"|\bname="model"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]{1,200})\r\n'
)


class Front:
    """An ASGI app. Nothing of an answer is sent before a replica began it, so until then another
    can be asked without anybody noticing."""

    def __init__(
        self,
        ask: Ask,
        ask_all: AskAll,
        died: tuple[type[Exception], ...],
        *,
        most_bytes: int,
        seconds: float,
    ) -> None:
        """``ask`` raises one of ``died`` where the replica has; ``ask_all`` is for metrics. Of a
        body ``most_bytes`` are read and one more, which a replica then refuses. An answer must
        begin within ``seconds``."""
        self._ask, self._ask_all, self._died = ask, ask_all, died
        self._most, self._seconds = most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            for end in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{end}.complete"})
            return
        body = await self._read(receive)
        asked = {name: value for name, value in scope.items() if name in ASKED}
        if scope["path"] == METRICS:
            told = await self._ask_all(asked)
            if told and all(each.status == 200 for each in told):
                text = gathered({each.name: each.body.decode() for each in told})
                await Response(text, headers={"content-type": CONTENT_TYPE})(scope, receive, send)
                return
        model = _model_of(body)
        reason = "no replica began to answer in time"
        try:
            async with asyncio.timeout(self._seconds) as bound:
                for _ in range(TRIES):
                    try:
                        async for message in self._ask(model, asked, body):
                            bound.reschedule(None)
                            await send(message)
                        return
                    except self._died:
                        if bound.when() is None:
                            raise  # the connection breaks, which its client sees
                reason = "the replicas that were asked have died"
        except TimeoutError:
            if not bound.expired():
                raise
        answer = error_response(
            503,
            f"{reason}: try again",
            "unavailable",
            kind="server_error",
            headers={"retry-after": str(RETRY_SECONDS)},
        )
        await answer(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes:
        body, more = bytearray(), True
        while more and len(body) <= self._most:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body[: self._most + 1])


def _model_of(body: bytes) -> str:
    """The model that a request asks for; empty if it names none."""
    found = MODEL.search(body)
    return (found[1] or found[2]).decode("utf-8", "replace") if found else ""
