"""Images as jobs: the kinds of requests that routes for images read, kept and drawn later."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool

from unmask.server.engine.face import EngineFace
from unmask.server.engine.tickets import Event, Progress
from unmask.server.http.answers import draw, stored_answer, with_urls
from unmask.server.http.bodies import Upload, read_body
from unmask.server.http.orders import ImageKind, make_order
from unmask.server.http.schemas import ImageBody
from unmask.server.jobs.job import Job
from unmask.server.jobs.kinds import Report, Result, ResultFile
from unmask.settings import Settings


class ImageJobs:
    """A kind of request for images, as jobs."""

    def __init__(self, engine: EngineFace, settings: Settings, kind: ImageKind[Any]) -> None:
        self._engine, self._settings, self._kind = engine, settings, kind

    async def draw(self, job: Job, uploads: Mapping[str, bytes], report: Report) -> Result:
        """The images of a job, by the same way as those that are answered at once."""
        raw = json.dumps(job.form).encode()
        body: ImageBody = await run_in_threadpool(read_body, raw, self._kind.body)
        upload = Upload(body, uploads)
        order = await make_order(self._engine, self._settings, self._kind, upload, job.owner)

        def hear(event: Event) -> None:
            if isinstance(event, Progress) and event.total:
                report(event.done / event.total)

        answer, images = await draw(self._engine, order, hear)
        return Result(
            answer.model_dump(mode="json", exclude_none=True),
            tuple(
                ResultFile(f"{number}.{body.image_format}", f"image/{body.image_format}", data)
                for number, data in enumerate(images)
            ),
        )

    def describe(self, job: Job, urls: Sequence[str]) -> Mapping[str, Any]:
        """The answer, with URLs in the place of images."""
        return with_urls(stored_answer(job), urls).model_dump(mode="json", exclude_none=True)
