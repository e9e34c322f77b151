"""The routes of jobs, of the files that they leave, and of the webhook that tells of them."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response, StreamingResponse

from unmask.errors import NotFoundError
from unmask.server.http.door import sender_of
from unmask.server.http.errors import ERRORS
from unmask.server.http.forms import JsonReader
from unmask.server.http.job_answers import (
    JobAnswer,
    JobDeleted,
    JobList,
    PageQuery,
    WebhookAnswer,
    file_urls,
    job_answer,
)
from unmask.server.http.job_events import event_stream, job_events
from unmask.server.http.stored import StoredResponse
from unmask.server.jobs.job import Job, Status
from unmask.server.jobs.jobs import Jobs
from unmask.server.jobs.kinds import Kind
from unmask.server.jobs.webhooks import LONGEST_URL

BYTES = {"schema": {"type": "string"}}
RESULT_HEADERS = {
    "cache-control": "private, max-age=300",
    "content-security-policy": "default-src 'none'; sandbox",
}


class JobQuery(PageQuery):
    """Which jobs a list holds."""

    status: Status | None = None
    kind: str | None = None


class WebhookBody(BaseModel):
    """What to call."""

    model_config = ConfigDict(strict=True, extra="forbid")

    url: str = Field(max_length=LONGEST_URL, description="https, at a public address")


WEBHOOK = JsonReader(WebhookBody)


def make_job_router(jobs: Jobs, kinds: Mapping[str, Kind]) -> APIRouter:
    """The routes of jobs; ``kinds`` know how their results are told."""
    router = APIRouter(tags=["jobs"], responses=ERRORS)

    def told(request: Request, job: Job) -> JobAnswer:
        if job.status != "completed":
            return job_answer(job)
        urls = file_urls(job, request.base_url)
        return job_answer(job, kinds[job.kind].describe(job, urls))

    @router.get("/v1/jobs", response_model_exclude_none=True)
    async def list_jobs(request: Request, query: Annotated[JobQuery, Query()]) -> JobList:
        """The jobs of the sender."""
        chosen = query.model_dump(exclude={"kind"})
        only = None if query.kind is None else [query.kind]
        page = await jobs.page(sender_of(request).name, kinds=only, **chosen)
        return JobList.of([told(request, job) for job in page.jobs], page.has_more)

    @router.get("/v1/jobs/{job_id}", response_model_exclude_none=True)
    async def job(request: Request, job_id: str) -> JobAnswer:
        """One job. That of a failed one is 200 too."""
        return told(request, await jobs.find(sender_of(request).name, job_id))

    @router.delete("/v1/jobs/{job_id}", response_model_exclude_none=True)
    async def delete_job(request: Request, job_id: str) -> JobAnswer | JobDeleted:
        """Cancel a job that has not ended; forget one that has, and remove its files."""
        owner = sender_of(request).name
        if not (await jobs.find(owner, job_id)).has_ended:
            return told(request, await jobs.cancel(owner, job_id))
        await jobs.remove(owner, job_id)
        return JobDeleted(id=job_id)

    @router.get(
        "/v1/jobs/{job_id}/events",
        response_class=StreamingResponse,
        responses={200: event_stream(JobAnswer, "job")},
    )
    async def events(request: Request, job_id: str) -> Response:
        """The job now, and after each change until it has ended, as server-sent events."""
        job = await jobs.find(sender_of(request).name, job_id)
        return job_events(jobs, job, lambda job: ("job", told(request, job)))

    @router.get(
        "/v1/results/{job_id}/{name}",
        response_class=FileResponse,
        responses={200: {"content": {"image/*": BYTES, "video/*": BYTES}}},
    )
    async def result(job_id: str, name: str, token: str = "") -> Response:
        """A file of a result. The URL that a job tells is enough: no key is needed."""
        return StoredResponse(await jobs.result(job_id, token, name), headers=RESULT_HEADERS)

    return router


def make_webhook_router(jobs: Jobs) -> APIRouter:
    """The routes of what is called when a job has ended."""
    router = APIRouter(tags=["jobs"], responses=ERRORS)

    @router.put("/v1/webhook", openapi_extra=WEBHOOK.schema)
    async def put_webhook(
        request: Request, body: Annotated[WebhookBody, Depends(WEBHOOK)]
    ) -> WebhookAnswer:
        """Call a URL whenever a job of the sender has ended. The secret that signs the calls is
        told here only, and is new each time."""
        hooks = await jobs.hooks()
        secret = await run_in_threadpool(hooks.put, sender_of(request).name, body.url)
        return WebhookAnswer(url=body.url, secret=secret)

    @router.get("/v1/webhook", response_model_exclude_none=True)
    async def webhook(request: Request) -> WebhookAnswer:
        """What is called."""
        hooks = await jobs.hooks()
        url = await run_in_threadpool(hooks.find, sender_of(request).name)
        if url is None:
            raise NotFoundError("there is no webhook", "webhook")
        return WebhookAnswer(url=url)

    @router.delete("/v1/webhook", status_code=204)
    async def delete_webhook(request: Request) -> None:
        """Call it no more."""
        hooks = await jobs.hooks()
        if not await run_in_threadpool(hooks.remove, sender_of(request).name):
            raise NotFoundError("there is no webhook", "webhook")

    return router
