"""Where requests are watched: around everything, so that each has a line in the log and a place in
the metrics, also one that is refused at the door or whose client has left."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.server.telemetry.accounts import account, open_account
from unmask.server.telemetry.log import log_request
from unmask.server.telemetry.metrics import CLIENT_GONE, Metrics


class Watch:
    """ASGI middleware, the outermost. The edge puts the request id into the scope."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and then tell of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        opened = open_account()
        status, complete, left = CLIENT_GONE, False, False

        async def send_heard(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not left:
                complete = not message.get("more_body", False)
            await send(message)

        async def receive_heard() -> Message:
            nonlocal left
            message = await receive()
            left = left or (message["type"] == "http.disconnect" and not complete)
            return message

        try:
            await self.app(scope, receive_heard, send_heard)
        finally:
            end = time.perf_counter()
            log_request(scope, opened, status, left, end)
            self.metrics.answered(opened, scope["method"], status, end)


class NoteRoute:
    """ASGI middleware, the innermost: which route it was, for its path is a bounded label."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self.app(scope, receive, send)
        finally:
            account().route = getattr(scope.get("route"), "path", "")
