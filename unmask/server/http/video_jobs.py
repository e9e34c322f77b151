"""Videos as jobs: what is kept of a request, how it is drawn later, and what is told of it."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool

from unmask.encoding import encode
from unmask.server.engine.face import EngineFace
from unmask.server.engine.tickets import Event, Preview, Progress
from unmask.server.http.answers import submit
from unmask.server.http.bodies import Upload, read_body
from unmask.server.http.video_answers import video_answer
from unmask.server.http.video_orders import VideoKind, VideoOrder, make_video_order
from unmask.server.http.video_schemas import KeptBody
from unmask.server.jobs.job import Job, NewJob
from unmask.server.jobs.kinds import Report, Result
from unmask.settings import Settings


class VideoJobs:
    """A kind of request for videos, as jobs."""

    def __init__(self, engine: EngineFace, settings: Settings, kind: VideoKind[Any]) -> None:
        self._engine, self._settings, self._kind = engine, settings, kind

    async def draw(self, job: Job, uploads: Mapping[str, bytes], report: Report) -> Result:
        """The files of a video."""
        raw = json.dumps(job.form["body"]).encode()
        body: KeptBody = await run_in_threadpool(read_body, raw, self._kind.body)
        upload = Upload(body, uploads)
        order = await make_video_order(self._engine, self._settings, self._kind, upload, job.owner)
        share = 0.0

        def hear(event: Event) -> None:
            nonlocal share
            if isinstance(event, Progress) and event.total:
                share = event.done / event.total
                report(share)
            elif isinstance(event, Preview):
                report(share, partial(encode, event.image, "png", 100, ""))

        drawn = await submit(self._engine, order, hear, previews=body.previews or 0)
        return Result({}, await run_in_threadpool(order.files, drawn.clips[0]))

    def describe(self, job: Job, urls: Sequence[str]) -> Mapping[str, Any]:
        """The video."""
        return video_answer(job, urls).model_dump(mode="json", exclude_none=True)


def new_job(
    kind: VideoKind[Any], upload: Upload[Any], order: VideoOrder, remixed_from: str | None
) -> NewJob:
    """An order to be kept: whatever it left open is fixed, so that each run draws the same."""
    told = {**order.told, "remixed_from_video_id": remixed_from}
    fixed = {name: told[name] for name in ("seed", "model", "output_format")}
    body = upload.body.model_copy(update={**fixed, "stream": None})
    form = {"body": body.model_dump(mode="json", exclude_none=True), "told": told}
    return NewJob(order.key, kind.name, form, dict(upload.files.items()))
