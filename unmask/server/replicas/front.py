"""The front: takes requests and asks a replica, and another one if that has died."""

from collections.abc import AsyncIterator, Callable

from starlette.types import Message, Receive, Scope, Send

from unmask.server.http.errors import error_response

Ask = Callable[[Scope, bytes], AsyncIterator[Message]]

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


class Front:
    """An ASGI app. Nothing of an answer is sent before a replica began it, so until then another
    can be asked without anybody noticing."""

    def __init__(self, ask: Ask, died: type[Exception], most_bytes: int) -> None:
        """``ask`` gives the messages of a replica's answer, and raises ``died`` where the replica
        has. Of a body ``most_bytes`` are read and one more, which a replica then refuses."""
        self._ask, self._died, self._most = ask, died, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            for end in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{end}.complete"})
            return
        body = await self._read(receive)
        asked = {name: value for name, value in scope.items() if name in ASKED}
        for _ in range(TRIES):
            begun = False
            try:
                async for message in self._ask(asked, body):
                    begun = True
                    await send(message)
                return
            except self._died:
                if begun:
                    raise  # the connection breaks, which its client sees
        answer = error_response(
            503,
            "the replicas that were asked have died: try again",
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
