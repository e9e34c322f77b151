"""A job as server-sent events: each change of it, until it has ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT
from pydantic import BaseModel, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from unmask.errors import UnmaskError
from unmask.server.http.errors import ErrorBody
from unmask.server.http.forms import inlined
from unmask.server.http.sse import (
    KEEPALIVE_SECONDS,
    STREAM_HEADERS,
    STREAM_TYPE,
    error_frame,
    frame,
)
from unmask.server.jobs.job import Job
from unmask.server.jobs.jobs import Jobs

Event = tuple[str, BaseModel]  # its name, and its data


def event_stream(data: Any, *names: str) -> dict[str, Any]:
    """What the document says of such an answer: the names of its events, and their data."""
    told: Any = data | ErrorBody
    schema = inlined(TypeAdapter(told).json_schema(mode="serialization"))
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    event = {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string", "enum": [*names, "error"]},
            "data": content,
        },
    }
    return {"content": {STREAM_TYPE: {"schema": event}}}


def job_events(
    jobs: Jobs,
    job: Job,
    tell: Callable[[Job], Event],
    show: Callable[[Job, int, bytes], Event] | None = None,
) -> StreamingResponse:
    """The job now and after each change, as ``tell`` has it; and if there is a ``show``, the
    previews of it in between, which have a number and a file. An error is the last event."""

    async def frames(job: Job) -> AsyncIterator[bytes]:
        told, shown = True, 0  # previews
        try:
            while True:
                if told:
                    yield frame(*tell(job))
                preview = None if show is None else jobs.preview(job)
                if show is not None and preview is not None and preview.number >= shown:
                    shown = preview.number + 1
                    data = await run_in_threadpool(preview.encode)
                    yield frame(*show(job, preview.number, data))
                if job.has_ended:
                    break
                before = job
                while True:
                    try:
                        async with asyncio.timeout(KEEPALIVE_SECONDS):
                            job = await jobs.next_change(before, None if show is None else shown)
                        break
                    except TimeoutError:
                        yield KEEPALIVE_COMMENT
                told = (job.status, job.progress) != (before.status, before.progress)
        except UnmaskError as error:
            yield error_frame(error)

    return StreamingResponse(frames(job), media_type=STREAM_TYPE, headers=STREAM_HEADERS)
