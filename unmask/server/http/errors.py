"""Every error as OpenAI clients read it: {"error": {"message", "type", "param", "code"}}."""

import uuid
from http import HTTPStatus

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from unmask.errors import (
    DeviceError,
    DrawingError,
    LimitError,
    ModerationError,
    NotFoundError,
    PromptTooLongError,
    QueueFullError,
    RequestError,
    UnavailableError,
)
from unmask.server.telemetry.accounts import account

RETRY_SECONDS = 5  # loading takes about this long; a dead worker waits for its supervisor

CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class ErrorDetail(BaseModel):
    """What went wrong; ``param`` names the field to mend, if it is one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def error_response(
    status: int,
    message: str,
    code: str | None,
    *,
    param: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An answer in the envelope."""
    account().code = code or str(status)
    detail = ErrorDetail(message=message, type=kind, param=param, code=code)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)


def raw_error(status: int, message: str, code: str) -> bytes:
    """The bytes of a whole answer, for connections on which no request could be read."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    headers = {"connection": "close", "x-request-id": uuid.uuid4().hex}
    answer = error_response(status, message, code, kind=kind, headers=headers)
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode("ascii")]
    lines += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])


def internal_error(request_id: str) -> JSONResponse:
    """The 500 that tells the caller nothing but where to look."""
    message = f"an unexpected error; the log of the server has it under request {request_id}"
    # The same request would fail in the same way, so the client library must not try thrice.
    headers = {"x-should-retry": "false"}
    return error_response(500, message, "internal_error", kind="server_error", headers=headers)


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error that is raised on purpose in the envelope."""
    raised = (RequestError, LimitError, UnavailableError, DeviceError, TimeoutError, DrawingError)
    for kind in raised:
        app.add_exception_handler(kind, lambda _, error: error_body(error))
    app.add_exception_handler(HTTPException, _http)


def error_body(error: Exception) -> JSONResponse:
    """The answer to an error that is raised on purpose; to any other, that it was not expected."""
    if isinstance(error, RequestError):
        return _request_error(error)
    if isinstance(error, LimitError):
        return _too_much(error, "rate_limit_exceeded")
    if isinstance(error, UnavailableError | DeviceError):
        return _unavailable(error)
    headers = {"x-should-retry": "false"}
    if isinstance(error, TimeoutError):
        return error_response(504, str(error), "timeout", kind="server_error", headers=headers)
    code = "drawing_failed" if isinstance(error, DrawingError) else "internal_error"
    message = str(error) if isinstance(error, DrawingError) else "an unexpected error"
    return error_response(500, message, code, kind="server_error", headers=headers)


def _request_error(error: RequestError) -> JSONResponse:
    if isinstance(error, NotFoundError):
        code = f"{error.param}_not_found" if error.param else "not_found"
        return error_response(404, str(error), code, param=error.param)
    if isinstance(error, ModerationError):  # in the words of OpenAI's refusals
        kind = "image_generation_user_error"
        return error_response(400, str(error), "moderation_blocked", param=error.param, kind=kind)
    code = "prompt_too_long" if isinstance(error, PromptTooLongError) else "invalid_value"
    return error_response(400, str(error), code, param=error.param)


def _too_much(error: LimitError | QueueFullError, code: str) -> JSONResponse:
    headers = {"retry-after": str(error.retry_after)}
    return error_response(429, str(error), code, kind="rate_limit_error", headers=headers)


def _unavailable(error: UnavailableError | DeviceError) -> JSONResponse:
    if isinstance(error, QueueFullError):
        return _too_much(error, "queue_full")
    headers = {"retry-after": str(RETRY_SECONDS)}
    return error_response(503, str(error), "unavailable", kind="server_error", headers=headers)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code)
    message = str(error.detail)
    if error.status_code in (404, 405):  # the router's own words name neither
        message = f"{message}: {request.method} {request.url.path}"
    return error_response(
        error.status_code, message, code, headers=dict(error.headers or {}) or None
    )
