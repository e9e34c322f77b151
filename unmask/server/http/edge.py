"""The outermost layer: request ids, the limits on bodies, and the last catch of errors."""

import asyncio
import logging
import re
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.errors import UnavailableError
from unmask.server.http.errors import error_body, error_response, internal_error

log = logging.getLogger(__name__)

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BYTES_PER_SECOND = 16 << 10  # that a body must come with, after its first seconds
STOPPING = "the server is stopping"
CLOSE = {"connection": "close"}
UPLOAD_PATHS = (
    "/images/edits",
    "/images/outpaint",
    "/images/variations",
    "/sdapi/v1/img2img",
    "/v1/videos",
    "/v1/videos/edits",
    "/v1/videos/extensions",
    "/v1/videos/sync",
)


class Uploads:
    """The bodies that are on their way: each must keep coming, until the server stops."""

    def __init__(self, idle_seconds: float) -> None:
        """``idle_seconds`` may pass between two parts of a body."""
        self.idle_seconds = idle_seconds
        self.closed = False
        self._waiting: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Wait for no body any more: those that are not complete get 503."""
        self.closed = True
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time())

    def limited(self, receive: Receive, max_bytes: int) -> Receive:
        """``receive`` for one request: HTTPException when its body is too large or too slow,
        UnavailableError when the server stops before it is complete."""
        loop = asyncio.get_running_loop()
        began, received, complete = loop.time(), 0, False

        async def receive_limited() -> Message:
            nonlocal received, complete
            if complete:
                return await receive()
            slowest = began + self.idle_seconds + received / BYTES_PER_SECOND
            message = await self._next(receive, min(loop.time() + self.idle_seconds, slowest))
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > max_bytes:
                raise HTTPException(413, _too_large(max_bytes), CLOSE)
            return message

        return receive_limited

    async def _next(self, receive: Receive, deadline: float) -> Message:
        timeout = asyncio.timeout_at(0.0 if self.closed else deadline)
        self._waiting.add(timeout)
        try:
            async with timeout:
                return await receive()
        except TimeoutError:
            if self.closed:
                raise UnavailableError(STOPPING) from None
            raise HTTPException(
                408, f"the body did not come: send it within {self.idle_seconds:g} s", CLOSE
            ) from None
        finally:
            self._waiting.discard(timeout)


class Edge:
    """ASGI middleware. Every answer that leaves it has an x-request-id and no traceback.

    A body over the limit is refused, whether its length was announced or is found while reading;
    those that hold pictures, in forms or in JSON, have a limit of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        uploads: Uploads,
        max_body_bytes: int,
        max_upload_bytes: int,
        is_stopping: Callable[[], bool],
    ) -> None:
        self.app, self.uploads, self.is_stopping = app, uploads, is_stopping
        self.max_body_bytes = max_body_bytes
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id  # for the log
        started = False

        async def send_tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                tags = MutableHeaders(scope=message)
                tags["x-request-id"] = request_id
                tags["x-content-type-options"] = "nosniff"
                if self.is_stopping():
                    tags["connection"] = "close"
            await send(message)

        is_form = headers.get("content-type", "").lstrip().lower().startswith("multipart/")
        holds_pictures = is_form or scope["path"].endswith(UPLOAD_PATHS)
        max_bytes = self.max_upload_bytes if holds_pictures else self.max_body_bytes
        if refusal := _refusal(headers, max_bytes):
            await refusal(scope, receive, send_tagged)
            return
        try:
            await self.app(scope, self.uploads.limited(receive, max_bytes), send_tagged)
        except ClientDisconnect:
            return  # in the middle of its body
        except asyncio.CancelledError:  # the end of a stop; a server would answer in its own words
            if not started:
                await error_body(UnavailableError(STOPPING))(scope, receive, send_tagged)
        except Exception:
            log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if started:  # too late for an envelope: let the server cut the connection
                raise
            await internal_error(request_id)(scope, receive, send_tagged)


def _refusal(headers: Headers, max_bytes: int) -> Response | None:
    """The answer to what is refused by its headers alone; after it the connection is closed, for
    what follows may be part of the body."""
    if "content-length" in headers and "transfer-encoding" in headers:
        # Two readers that believe different ones see different requests.
        message = "content-length and transfer-encoding exclude each other: send one"
        return error_response(400, message, "bad_request", headers=CLOSE)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        message = f"content-encoding {encoding[:40]!r} is not read: send the body as it is"
        return error_response(415, message, "unsupported_media_type", headers=CLOSE)
    length = headers.get("content-length", "")
    digits = length.isascii() and length.isdigit() and len(length) < 20
    if digits and int(length) > max_bytes:
        return error_response(413, _too_large(max_bytes), "body_too_large", headers=CLOSE)
    return None


def _too_large(limit: int) -> str:
    return f"the body is larger than the {limit} bytes that are read"
