"""What the server logs, and how: the one place that knows. Prompts, keys, query strings and what
files hold are never in a line.

Everybody logs by the standard library; structlog makes the lines of it, for people or as JSON.
"""

import logging
import re
import sys
import time
from collections import Counter
from urllib.parse import quote

import structlog
from starlette.types import Scope
from structlog.typing import EventDict, Processor

from unmask.server.telemetry.accounts import Account
from unmask.settings import LogFormat, Settings

requests = logging.getLogger("unmask.requests")

LONGEST_PATH = 200
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure_log(settings: Settings) -> None:
    """Log to standard error, warnings of libraries too. Of libraries nothing below info is written:
    at debug level some write what files and forms hold."""
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(settings.log_format))
    handler.addFilter(OncePerSecond())
    logging.captureWarnings(True)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("unmask").setLevel(level)


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    """Makes the lines: of what is told beside the event, each is a field."""
    shared: list[Processor] = [
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_colours,
    ]
    # Both write tracebacks without the values of variables, one of which is a prompt.
    last: list[Processor] = [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]
    if log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        shared.append(_escape)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(processors=[remove, *last], foreign_pre_chain=shared)


def log_request(scope: Scope, account: Account, status: int, left: bool, end: float) -> None:
    """A line about a request; ``left``: its client did not wait for all of the answer."""
    told: dict[str, object] = {
        "id": scope.get("request_id", ""),
        "method": scope["method"],
        "path": quote(scope["path"], "/:@+,=~")[:LONGEST_PATH],
        "status": status,
        "seconds": round(end - account.began, 4),
        "key": account.key,
        "address": scope["client"][0] if scope.get("client") else "",
        "code": account.code,
        "model": account.model,
        "left": left,
    }
    if account.drawn_at:
        told |= {
            "images": account.images,
            "tokens": account.tokens,
            "queue_seconds": round(account.queue_seconds, 4),
            "draw_seconds": round(account.draw_seconds, 4),
            "answer_seconds": round(end - account.drawn_at, 4),
        }
    kept = {name: value for name, value in told.items() if value != "" and value is not False}
    requests.info("request", extra=kept)


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


def _without_colours(_: object, __: str, event: EventDict) -> EventDict:
    """uvicorn tells some events twice, the second time with colours."""
    event.pop("color_message", None)
    return event


def _escape(_: object, __: str, event: EventDict) -> EventDict:
    """A line for people is one line, whatever a client put into it. (JSON escapes by itself.)"""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = CONTROL.sub(lambda found: repr(found[0])[1:-1], value)
    return event
