"""Every error as OpenAI clients read it: {"error": {"message", "type", "param", "code"}}."""

import json
import uuid
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
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
    ReusedKeyError,
    UnavailableError,
    UnknownWordsError,
)
from unmask.server.jobs.job import Fault
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


# What the document says of routes: any error of theirs is in the envelope.
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


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
    status, code, kind, _ = UNEXPECTED
    return error_response(status, message, code, kind=kind, headers=dict([_NEVER]))


class Answer(NamedTuple):
    """How an error is answered."""

    status: int
    code: str
    kind: str = "invalid_request_error"
    header: tuple[str, str] | None = None


_LATER = ("retry-after", str(RETRY_SECONDS))
# Sent again, it would fail in the same way: the client library must not try thrice.
_NEVER = ("x-should-retry", "false")
# An error that is not here, nor one that it is a kind of, is not the caller's to mend.
ANSWERS: dict[type[Exception], Answer] = {
    RequestError: Answer(400, "invalid_value"),
    NotFoundError: Answer(404, "not_found"),
    PromptTooLongError: Answer(400, "prompt_too_long"),
    UnknownWordsError: Answer(400, "unknown_words"),
    ModerationError: Answer(400, "moderation_blocked", "image_generation_user_error"),
    ReusedKeyError: Answer(422, "idempotency_key_reused", "invalid_request_error", _NEVER),
    LimitError: Answer(429, "rate_limit_exceeded", "rate_limit_error"),
    QueueFullError: Answer(429, "queue_full", "rate_limit_error"),
    UnavailableError: Answer(503, "unavailable", "server_error", _LATER),
    DeviceError: Answer(503, "unavailable", "server_error", _LATER),
    TimeoutError: Answer(504, "timeout", "server_error", _NEVER),
    DrawingError: Answer(500, "drawing_failed", "server_error", _NEVER),
}
UNEXPECTED = Answer(500, "internal_error", "server_error", _NEVER)


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error that is raised on purpose in the envelope."""
    for kind in ANSWERS:
        app.add_exception_handler(kind, lambda _, error: error_body(error))
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


def error_body(error: Exception) -> JSONResponse:
    """The answer to an error that is raised on purpose; to any other, that it was not expected."""
    known = (ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    answer = next(known, UNEXPECTED)
    message = "an unexpected error" if answer is UNEXPECTED else str(error)
    param = error.param if isinstance(error, RequestError) else None
    code = f"{param}_not_found" if param and answer.code == "not_found" else answer.code
    headers = dict([answer.header] if answer.header else [])
    if isinstance(error, LimitError | QueueFullError):
        headers["retry-after"] = str(error.retry_after)
    return error_response(
        answer.status, message, code, param=param, kind=answer.kind, headers=headers or None
    )


def fault_of(error: Exception) -> Fault:
    """The same answer, as a job keeps it."""
    answer = error_body(error)
    return Fault(answer.status_code, **json.loads(bytes(answer.body))["error"])


def fault_response(fault: Fault) -> JSONResponse:
    """The answer to who waits for a job that has failed: the same request will always get it."""
    return error_response(
        fault.status,
        fault.message,
        fault.code,
        param=fault.param,
        kind=fault.type,
        headers={"x-should-retry": "false"},
    )


def _invalid(_: Request, error: Exception) -> Response:
    """What FastAPI itself finds wrong, with queries and small bodies."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    param = next((str(part)[:64] for part in reversed(fault["loc"]) if isinstance(part, str)), None)
    return error_response(400, f"{param}: {fault['msg']}", "invalid_value", param=param)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code)
    message = str(error.detail)
    if error.status_code in (404, 405):  # the router's own words name neither
        message = f"{message}: {request.method} {request.url.path}"
    return error_response(
        error.status_code, message, code, headers=dict(error.headers or {}) or None
    )
