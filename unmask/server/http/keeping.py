"""Requests that are kept as jobs: those that ask to be answered later, those with a key of their
own, and those that ask for URLs. The last two are waited for."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from unmask.errors import RequestError, UnavailableError
from unmask.server.engine.face import EngineFace
from unmask.server.http.answer_schemas import ImagesAnswer
from unmask.server.http.answers import stored_answer, with_images, with_urls
from unmask.server.http.bodies import AnyBody, Upload
from unmask.server.http.door import meter_of, sender_of
from unmask.server.http.edge import STOPPING
from unmask.server.http.errors import error_response, fault_response
from unmask.server.http.job_answers import JobAnswer, file_urls, job_answer
from unmask.server.http.order import Order
from unmask.server.http.orders import ImageKind, make_order
from unmask.server.http.schemas import Body, ImageBody
from unmask.server.http.waiting import unless_gone
from unmask.server.jobs.job import Job, NewJob
from unmask.server.jobs.jobs import Jobs
from unmask.settings import Settings

KEY = "Idempotency-Key"
KEY_PATTERN = r"[!-~]{1,255}"
LATER = "respond-async"


KEY_PARAMETER = {
    "name": KEY,
    "in": "header",
    "description": "the same request with the same key is drawn once",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
}


@dataclass(frozen=True)
class Kept:
    """What the document says of routes whose requests may be kept."""

    responses: dict[int | str, dict[str, Any]]
    extra: dict[str, Any]


KEPT = Kept(
    {202: {"model": JobAnswer, "description": "with Prefer: respond-async, the job"}},
    {
        "parameters": [
            {
                "name": "Prefer",
                "in": "header",
                "description": f"{LATER}: answer with a job, and draw later",
                "schema": {"type": "string"},
            },
            KEY_PARAMETER,
        ]
    },
)


@dataclass(frozen=True)
class Wish:
    """How a sender wants to be answered."""

    later: bool
    key: str | None
    urls: bool

    @classmethod
    def of(cls, request: Request, body: ImageBody) -> "Wish":
        """As the headers and the body say. RequestError."""
        preferences = ",".join(request.headers.getlist("prefer")).split(",")
        later = any(text.partition(";")[0].strip().lower() == LATER for text in preferences)
        key = given_key(request)
        wish = cls(later, key, body.response_format == "url")
        if wish.is_kept and body.stream:
            named = f"Prefer: {LATER}" if later else KEY if key else "response_format: url"
            raise RequestError(f"stream: it does not go with {named}; choose one", "stream")
        return wish

    @property
    def is_kept(self) -> bool:
        """Whether it takes a job."""
        return self.later or self.urls or self.key is not None


@dataclass(frozen=True)
class Keeper:
    """Keeps requests for images."""

    engine: EngineFace
    settings: Settings
    jobs: Jobs

    async def answer(
        self, request: Request, kind: ImageKind[Body], upload: Upload[Body], wish: Wish
    ) -> ImagesAnswer | Response:
        """The job, or what came of it if that is waited for."""

        async def make() -> tuple[NewJob, int]:
            owner = sender_of(request).name
            order = await make_order(self.engine, self.settings, kind, upload, owner)
            return _new_job(kind, upload, order), order.weighed.cost.drawn_tokens

        digest = partial(digest_of, kind.name, upload)
        job = await keep(self.jobs, request, wish.key, digest, make, at_once=not wish.later)
        if wish.later:
            return accepted(request, job)
        return await self._answer_of(request, await self._wait(request, job, wish), wish)

    async def _wait(self, request: Request, job: Job, wish: Wish) -> Job:
        """The job when it has ended. Where it has no key nobody could ask for it again, so it is
        given up when its sender leaves, or may wait no longer."""
        seconds = self.settings.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await unless_gone(request, self.jobs.end(job))
        except BaseException as error:
            if wish.key is None:
                await self.jobs.cancel(job.owner, job.id)
            if isinstance(error, TimeoutError):
                goes_on = f"; it goes on, as {job.id}" if wish.key else ""
                raise TimeoutError(f"not done within {seconds:g} s{goes_on}") from None
            if isinstance(error, UnavailableError) and wish.key is None:
                raise UnavailableError(STOPPING) from None  # and the job does not go on after it
            raise

    async def _answer_of(self, request: Request, job: Job, wish: Wish) -> ImagesAnswer | Response:
        if job.fault is not None:
            return fault_response(job.fault)
        if job.status == "cancelled":
            return error_response(410, f"the job {job.id} was cancelled", "job_cancelled")
        if wish.urls:
            return with_urls(stored_answer(job), file_urls(job, request.base_url))
        files = await self.jobs.read(job)
        return await run_in_threadpool(
            lambda: with_images(stored_answer(job), [files[note.name] for note in job.files])
        )


def given_key(request: Request) -> str | None:
    """The sender's own name for a request. RequestError."""
    key = request.headers.get(KEY)
    if key is not None and not re.fullmatch(KEY_PATTERN, key):
        raise RequestError(f"{KEY}: give 1 to 255 printable ASCII characters", KEY)
    return key


async def keep(
    jobs: Jobs,
    request: Request,
    key: str | None,
    digest: Callable[[], str],
    make: Callable[[], Awaitable[tuple[NewJob, int]]],
    *,
    at_once: bool = False,
) -> Job:
    """The job of a request: the earlier one of its key, or the one that ``make`` makes, with the
    tokens that it will draw."""
    told, job = "", None
    if key is not None:
        told = await run_in_threadpool(digest)
        job = await jobs.earlier(sender_of(request).name, key, told)
    if job is None:
        new, tokens = await make()
        await meter_of(request).spend_tokens(tokens)
        job = await jobs.accept(replace(new, key=key, digest=told), at_once=at_once)
    await meter_of(request).close()  # from here on the job has the place
    return job


def accepted(request: Request, job: Job) -> JSONResponse:
    """The answer to a request that will be drawn later."""
    headers = {
        "location": f"{request.base_url}v1/jobs/{job.id}",
        "preference-applied": LATER,
    }
    body = job_answer(job).model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, 202, headers)


def _new_job(kind: ImageKind[Body], upload: Upload[Body], order: Order) -> NewJob:
    """An order to be kept: whatever it left open is fixed, so that each run draws the same."""
    fixed = {"seed": order.request.seed, "model": order.model.name}
    body = upload.body.model_copy(update=fixed)
    form = body.model_dump(mode="json", exclude_none=True)
    uploads: dict[str, bytes] = dict(upload.files.items())
    return NewJob(order.key, kind.name, form, uploads)


def digest_of(kind: str, upload: Upload[AnyBody]) -> str:
    """What tells one request from another, however it was written."""
    digest = hashlib.sha256(f"{kind} {upload.body.model_dump_json(exclude_none=True)}".encode())
    for name, data in sorted(upload.files.items()):
        digest.update(f" {name} {hashlib.sha256(data).hexdigest()}".encode())
    return digest.hexdigest()
