"""Jobs as they are told to their senders."""

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import URL

from unmask.server.http.errors import ErrorDetail
from unmask.server.jobs.job import Fault, Job, Status


class JobAnswer(BaseModel):
    """A job. Times are whole seconds since 1970."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    status: Status
    progress: int = Field(description="percent; 100 once the result can be read")
    created_at: int
    started_at: int | None = None
    completed_at: int | None = Field(default=None, description="when it ended, in whichever way")
    expires_at: int | None = Field(default=None, description="when it is forgotten")
    error: ErrorDetail | None = Field(default=None, description="of a failed one")
    result: dict[str, Any] | None = Field(
        default=None,
        description="of a completed one: the answer that the route would have given, with urls",
    )


class PageQuery(BaseModel):
    """Which part of a list is told."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(None, description="the id before the first of the page")
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field("desc", description="desc: the newest first")


class PageAnswer(BaseModel):
    """A page of a list, in OpenAI's shape."""

    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool

    @classmethod
    def of(cls, data: list[Any], has_more: bool) -> Self:
        """The page that holds these."""
        ends = {"first_id": data[0].id, "last_id": data[-1].id} if data else {}
        return cls.model_validate({"data": data, "has_more": has_more, **ends})


class JobList(PageAnswer):
    """A page of jobs."""

    data: list[JobAnswer]


class JobDeleted(BaseModel):
    """A job that is forgotten."""

    id: str
    object: Literal["job.deleted"] = "job.deleted"
    deleted: Literal[True] = True


class WebhookAnswer(BaseModel):
    """What is called when a job ends; its secret is told once."""

    object: Literal["webhook"] = "webhook"
    url: str
    secret: str | None = None


def job_answer(job: Job, result: Mapping[str, Any] | None = None) -> JobAnswer:
    """A job as its sender sees it."""
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        status=job.status,
        progress=job.progress,
        created_at=int(job.created),
        started_at=whole(job.started),
        completed_at=whole(job.ended),
        expires_at=whole(job.expires),
        error=None if job.fault is None else fault_detail(job.fault),
        result=None if result is None else dict(result),
    )


def file_urls(job: Job, base: URL) -> list[str]:
    """Where the files of a completed job are. Whoever knows such a URL may read it without a key;
    what makes it secret stands in the query, for paths are logged."""
    return [
        f"{base}v1/results/{job.id}/{quote(note.name)}?token={job.secret}" for note in job.files
    ]


def fault_detail(fault: Fault) -> ErrorDetail:
    """Why a job failed, as it is told."""
    return ErrorDetail(message=fault.message, type=fault.type, param=fault.param, code=fault.code)


def whole(seconds: float | None) -> int | None:
    """A time as it is told."""
    return None if seconds is None else int(seconds)
