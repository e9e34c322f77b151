"""What the server logs, and how: the one place that knows. Prompts, keys, query strings and what
files hold are never in a line."""

import logging
import time
from collections import Counter
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.settings import Settings

requests = logging.getLogger("unmask.requests")

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S"
CLIENT_GONE = 499
LONGEST_PATH = 200


def configure_log(settings: Settings) -> None:
    """Log to standard error. Of libraries nothing below info is written: at debug level some write
    what files and forms hold."""
    logging.basicConfig(format=FORMAT, datefmt=TIME)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.getLogger().setLevel(max(level, logging.INFO))
    logging.getLogger("unmask").setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OncePerSecond())


class OncePerSecond(logging.Filter):
    """Lets a warning or an error pass once a second, and then says how often it came."""

    def __init__(self) -> None:
        super().__init__()
        self._until: dict[tuple[object, ...], float] = {}
        self._dropped: Counter[tuple[object, ...]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno < logging.WARNING:
            return True
        kind = record.exc_info[0] if record.exc_info else None
        fault = (record.name, record.levelno, record.msg if record.args else record.lineno, kind)
        now = time.monotonic()
        if now < self._until.get(fault, 0.0):
            self._dropped[fault] += 1
            return False
        self._until[fault] = now + 1
        if dropped := self._dropped.pop(fault, 0):
            record.msg = f"{record.getMessage()} (and {dropped} more like this)"
            record.args = None
        return True


class RequestLog:
    """ASGI middleware: a line a request, also for one whose client has left.

    The edge puts the request id into the scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and then log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, complete, left = time.perf_counter(), CLIENT_GONE, False, False

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
            requests.info(
                "%s %s %s %s %.3f s from %s%s",
                scope.get("request_id", "-"),
                scope["method"],
                quote(scope["path"], "/:@+,=~")[:LONGEST_PATH],  # no line breaks, no colours
                status,
                time.perf_counter() - began,
                scope["client"][0] if scope.get("client") else "-",
                ", which left" if left else "",
            )
