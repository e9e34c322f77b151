"""HEAD and OPTIONS, for every route alike, and the path that a proxy puts before all of them."""

from collections.abc import Sequence

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


class Methods:
    """ASGI middleware: HEAD is GET without the body, and OPTIONS tells what there is."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app, self.routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        method = scope["method"] if scope["type"] == "http" else ""
        if method == "HEAD":
            await self.app({**scope, "method": "GET"}, receive, _without_body(send))
        elif method == "OPTIONS" and (allowed := self._allowed(scope)):
            answer = Response(status_code=204, headers={"allow": ", ".join(allowed)})
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _allowed(self, scope: Scope) -> list[str]:
        """The methods that a path has, of all routes; none if there is no such path."""
        methods = [
            method
            for method in METHODS
            for route in self.routes
            if route.matches({**scope, "method": method})[0] is Match.FULL
        ]
        heads = ["HEAD"] if "GET" in methods else []
        return sorted({*methods, *heads, "OPTIONS"}) if methods else []


class RootPath:
    """ASGI middleware: the path that a proxy puts before all others, whether it takes it away again
    or not."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.app({**scope, "root_path": self.root_path}, receive, send)


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
