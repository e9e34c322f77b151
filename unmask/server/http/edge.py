"""The outermost layer: request ids, the limit on bodies, and the last catch of errors."""

import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.server.http.errors import error_response, internal_error

log = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Edge:
    """ASGI middleware. Every answer that leaves it has an x-request-id and no traceback.

    A body over the limit is refused, whether its length was announced or is found while reading;
    forms, which hold files, have a limit of their own.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        started = False

        async def send_tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                tags = MutableHeaders(scope=message)
                tags["x-request-id"] = request_id
                tags["x-content-type-options"] = "nosniff"
            await send(message)

        is_form = headers.get("content-type", "").lstrip().lower().startswith("multipart/")
        limit = self.max_upload_bytes if is_form else self.max_body_bytes
        if _announced(headers) > limit:
            refusal = error_response(413, _too_large(limit), "body_too_large")
            await refusal(scope, receive, send_tagged)
            return
        try:
            await self.app(scope, _limited(receive, limit), send_tagged)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if started:  # too late for an envelope: let the server cut the connection
                raise
            await internal_error(request_id)(scope, receive, send_tagged)


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _limited(receive: Receive, limit: int) -> Receive:
    read = 0

    async def receive_limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return receive_limited


def _too_large(limit: int) -> str:
    return f"the body is larger than the {limit} bytes that are read"
