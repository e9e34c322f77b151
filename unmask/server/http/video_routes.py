"""The routes of videos, in OpenAI's shape. Each video is a job."""

from functools import partial
from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from unmask.clips import Clip
from unmask.clips.formats import FORMATS
from unmask.errors import NotFoundError, RequestError
from unmask.server.engine.face import EngineFace
from unmask.server.http.answers import submit
from unmask.server.http.bodies import Upload
from unmask.server.http.door import meter_of, sender_of
from unmask.server.http.errors import ERRORS, error_response
from unmask.server.http.forms import JsonReader, UploadReader
from unmask.server.http.job_answers import PageQuery, file_urls
from unmask.server.http.job_events import event_stream, job_events
from unmask.server.http.job_routes import RESULT_HEADERS
from unmask.server.http.keeping import KEY_PARAMETER, digest_of, given_key, keep
from unmask.server.http.stored import StoredResponse
from unmask.server.http.video_answers import (
    JOB,
    VIDEO,
    Variant,
    Video,
    VideoAnswer,
    VideoDeleted,
    VideoEvent,
    VideoList,
    VideoPreviewEvent,
    preview_event,
    video_answer,
    video_event,
)
from unmask.server.http.video_jobs import new_job
from unmask.server.http.video_orders import (
    EDIT,
    EXTENSION,
    NEW,
    PICTURE,
    REMIX,
    SYNC,
    VIDEO_KINDS,
    VideoKind,
    make_video_order,
)
from unmask.server.http.video_schemas import (
    EditVideoBody,
    ExtendVideoBody,
    KeptBody,
    NewVideoBody,
    RemixBody,
    SyncVideoBody,
)
from unmask.server.http.waiting import unless_gone
from unmask.server.jobs.job import Job, NewJob
from unmask.server.jobs.jobs import Jobs
from unmask.settings import Settings

KINDS = [kind.name for kind in VIDEO_KINDS]
POLL = {"openai-poll-after-ms": "500"}  # as often as the progress of jobs is noted
KEY = {"parameters": [KEY_PARAMETER]}
LATER = {"retry-after": "1"}
SHEET = "spritesheet.png"

NEWS = UploadReader(NewVideoBody, ["input_reference"], None)
SYNCS = UploadReader(SyncVideoBody, ["input_reference"], None)
EDITS = UploadReader(EditVideoBody, ["video", "mask"], "video")
EXTENSIONS = UploadReader(ExtendVideoBody, ["video"], "video")
REMIXES = JsonReader(RemixBody)
STATUSES = ("queued", "in_progress", "completed", "failed")
STREAM = event_stream(
    VideoEvent | VideoPreviewEvent, *(f"video.{status}" for status in STATUSES), "video.preview"
)
FILE = {"schema": {"type": "string", "format": "binary"}}
FILES = {form.media_type: FILE for form in FORMATS.values()}


def make_video_router(engine: EngineFace, settings: Settings, jobs: Jobs) -> APIRouter:
    """The routes of videos, kept as jobs and drawn with the engine."""
    router = APIRouter(tags=["videos"], responses=ERRORS)
    videos = _Videos(engine, settings, jobs)

    kept = partial(
        router.post, response_model=Video, response_model_exclude_none=True, responses={200: STREAM}
    )

    @kept("/v1/videos", openapi_extra=NEWS.schema | KEY)
    async def create(
        request: Request, upload: Annotated[Upload[NewVideoBody], Depends(NEWS)]
    ) -> Response:
        """Draw a video, later. With stream: true the answer is its events."""
        return await videos.create(request, NEW, upload)

    @kept("/v1/videos/edits", openapi_extra=EDITS.schema | KEY)
    async def edit(
        request: Request, upload: Annotated[Upload[EditVideoBody], Depends(EDITS)]
    ) -> Response:
        """Draw over a video: what a mask or a box selects is drawn anew; with a strength or a share
        so much of it, and without any of these the whole is revised towards the prompt."""
        return await videos.create(request, EDIT, upload)

    @kept("/v1/videos/extensions", openapi_extra=EXTENSIONS.schema | KEY)
    async def extend(
        request: Request, upload: Annotated[Upload[ExtendVideoBody], Depends(EXTENSIONS)]
    ) -> Response:
        """Go on with a video, which comes back as it is."""
        return await videos.create(request, EXTENSION, upload)

    @kept("/v1/videos/{video_id}/remix", openapi_extra=REMIXES.schema | KEY)
    async def remix(
        request: Request, video_id: str, body: Annotated[RemixBody, Depends(REMIXES)]
    ) -> Response:
        """Revise a video towards another prompt, as a new one."""
        return await videos.create(request, REMIX, Upload(body, {}), video_id)

    @router.post(
        "/v1/videos/sync",
        response_class=Response,
        responses={200: {"content": FILES}},
        openapi_extra=SYNCS.schema,
    )
    async def sync(
        request: Request, upload: Annotated[Upload[SyncVideoBody], Depends(SYNCS)]
    ) -> Response:
        """Draw a video, now: the answer is its file."""
        order = await make_video_order(engine, settings, SYNC, upload, sender_of(request).name)
        await meter_of(request).spend_tokens(order.weighed.cost.drawn_tokens)
        drawn = await unless_gone(request, submit(engine, order))
        headers = {"x-model": order.model.name, "x-inference-time-s": f"{drawn.seconds:.3f}"}
        data = await run_in_threadpool(order.file, drawn.clips[0])
        return Response(data, headers=headers, media_type=order.media_type)

    _add_reading(router, videos, jobs)
    return router


def _add_reading(router: APIRouter, videos: "_Videos", jobs: Jobs) -> None:
    """The routes of videos that there are."""

    @router.get("/v1/videos", response_model_exclude_none=True)
    async def list_videos(request: Request, query: Annotated[PageQuery, Query()]) -> VideoList:
        """The videos of the sender."""
        after = None if query.after is None else (await videos.find(request, query.after)).id
        page = await jobs.page(
            sender_of(request).name, kinds=KINDS, after=after, limit=query.limit, order=query.order
        )
        return VideoList.of([_told(request, job) for job in page.jobs], page.has_more)

    @router.get("/v1/videos/{video_id}", response_model=Video, response_model_exclude_none=True)
    async def video(request: Request, video_id: str) -> Response:
        """One video. That of a failed one is 200 too."""
        return _answer(request, await videos.find(request, video_id))

    @router.delete("/v1/videos/{video_id}")
    async def delete_video(request: Request, video_id: str) -> VideoDeleted:
        """Stop the work on a video, and forget it and its files."""
        job = await videos.find(request, video_id)
        await jobs.cancel(job.owner, job.id)
        await jobs.remove(job.owner, job.id)
        return VideoDeleted(id=video_id)

    @router.get(
        "/v1/videos/{video_id}/events",
        response_class=Response,
        responses={200: STREAM},
    )
    async def events(request: Request, video_id: str) -> Response:
        """The video now, and after each change until it has ended, as server-sent events."""
        return videos.events(request, await videos.find(request, video_id))

    @router.get(
        "/v1/videos/{video_id}/content",
        response_class=FileResponse,
        responses={200: {"content": FILES | {PICTURE: FILE}}},
    )
    async def content(request: Request, video_id: str, variant: Variant = "video") -> Response:
        """A file of a completed video."""
        job = await videos.find(request, video_id)
        for note in job.files:
            name, _, ending = note.name.partition(".")
            if name == variant:
                stored = await jobs.result(job.id, job.secret, note.name)
                named = f"{video_id}.{ending}"
                return StoredResponse(stored, filename=named, headers=RESULT_HEADERS)
        message = f"video {video_id} has no {variant}: it is {video_answer(job).status}"
        headers = None if job.has_ended else LATER
        return error_response(404, message, "video_not_ready", param="video", headers=headers)


class _Videos:
    """What several routes do with videos."""

    def __init__(self, engine: EngineFace, settings: Settings, jobs: Jobs) -> None:
        self._engine, self._settings, self._jobs = engine, settings, jobs

    async def create(
        self,
        request: Request,
        kind: VideoKind[Any],
        upload: Upload[Any],
        remixed: str | None = None,
    ) -> Response:
        """The new video that an upload asks for."""

        async def make() -> tuple[NewJob, int]:
            owner, whole = sender_of(request).name, await self._with_clip(request, upload, remixed)
            order = await make_video_order(self._engine, self._settings, kind, whole, owner)
            return new_job(kind, whole, order, remixed), order.weighed.cost.drawn_tokens

        body: KeptBody = upload.body
        digest = partial(digest_of, f"{kind.name} {remixed}", upload)
        job = await keep(self._jobs, request, given_key(request), digest, make)
        return self.events(request, job) if body.stream else _answer(request, job)

    async def find(self, request: Request, video: str) -> Job:
        """The job of a video of the sender. NotFoundError."""
        missing = NotFoundError(f"there is no video {video[:64]!r}", "video")
        if not video.startswith(VIDEO):
            raise missing
        try:
            job = await self._jobs.find(sender_of(request).name, JOB + video.removeprefix(VIDEO))
        except NotFoundError:
            raise missing from None
        if job.kind not in KINDS:
            raise missing
        return job

    def events(self, request: Request, job: Job) -> Response:
        """The events of a video."""
        return job_events(
            self._jobs, job, lambda job: video_event(_told(request, job)), preview_event
        )

    async def _with_clip(
        self, request: Request, upload: Upload[Any], remixed: str | None
    ) -> Upload[Any]:
        """The upload with the clip that it only refers to, which need not be kept any more then."""
        reference = getattr(upload.body, "video", None)
        video = remixed if reference is None else reference.id
        if video is None:
            return upload
        job = await self.find(request, video)
        if job.status != "completed":
            status = video_answer(job).status
            raise RequestError(f"video: {video} is {status}, and not completed", "video")
        files, told = await self._jobs.read(job), job.form["told"]

        def read_back() -> bytes:
            sheet = Image.open(BytesIO(files[SHEET]))
            return Clip.of_spritesheet(sheet, told["frames"], told["fps"]).encode("apng")

        update: dict[str, Any] = {"video": None}
        if remixed is not None:
            update = {"model": upload.body.model or told["model"]}
        data = await run_in_threadpool(read_back)
        return Upload(upload.body.model_copy(update=update), {**upload.files, "video": data})


def _told(request: Request, job: Job) -> VideoAnswer:
    urls = file_urls(job, request.base_url) if job.status == "completed" else ()
    return video_answer(job, urls)


def _answer(request: Request, job: Job) -> JSONResponse:
    body = _told(request, job).model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, headers=None if job.has_ended else POLL)
