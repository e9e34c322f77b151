"""Server-sent events, as every stream of this server writes them."""

import json

from fastapi.sse import format_sse_event
from pydantic import BaseModel

from unmask.server.http.errors import error_body

STREAM_TYPE = "text/event-stream"
# No proxy is to keep them until there are more.
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
KEEPALIVE_SECONDS = 15.0  # of silence, after which a comment is sent


def frame(name: str, data: BaseModel) -> bytes:
    """One event."""
    return _frame(name, data.model_dump(mode="json", exclude_none=True))


def error_frame(error: Exception) -> bytes:
    """The event that ends a stream which was begun and then failed: in the envelope."""
    return _frame("error", json.loads(bytes(error_body(error).body)))


def _frame(name: str, data: object) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data))
