"""Videos as they are told to their senders: OpenAI's fields, and ours beside them."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from unmask.encoding import base_64
from unmask.server.http.answer_schemas import RESOLVED, EditSummary, RequestWarning
from unmask.server.http.errors import ErrorDetail
from unmask.server.http.job_answers import PageAnswer, fault_detail, whole
from unmask.server.http.video_schemas import VideoFormat
from unmask.server.jobs.job import Job

Variant = Literal["video", "thumbnail", "spritesheet"]
JOB, VIDEO = "job_", "video_"  # what their ids begin with; the rest is the same
CANCELLED = ErrorDetail(
    message="the job was cancelled", type="invalid_request_error", param=None, code="job_cancelled"
)


class VideoAnswer(BaseModel):
    """OpenAI's Video, then the values it is drawn from. Times are whole seconds since 1970."""

    id: str
    object: Literal["video"] = "video"
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(description="percent; 100 once the files can be read")
    created_at: int
    completed_at: int | None = Field(default=None, description="when it ended, in whichever way")
    expires_at: int | None = Field(default=None, description="when it is forgotten")
    error: ErrorDetail | None = Field(default=None, description="of a failed one")
    model: str
    prompt: str
    size: str
    seconds: str = Field(description="how long it is, all of it")
    remixed_from_video_id: str | None = None

    frames: int
    fps: int
    seed: int
    output_format: VideoFormat
    edit: EditSummary | None = None
    warnings: tuple[RequestWarning, ...] | None = None
    urls: dict[Variant, str] | None = Field(
        default=None, description="of a completed one: where its files are, without a key"
    )


Video = create_model("Video", __base__=VideoAnswer, __doc__=VideoAnswer.__doc__, **RESOLVED)


class VideoList(PageAnswer):
    """A page of videos."""

    data: list[Video]  # type: ignore[valid-type]  # it is made above


class VideoDeleted(BaseModel):
    """A video that is forgotten."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class VideoEvent(BaseModel):
    """A video, as it is now."""

    type: Literal["video.queued", "video.in_progress", "video.completed", "video.failed"]
    video: Video  # type: ignore[valid-type]  # it is made above


class VideoPreviewEvent(BaseModel):
    """How a video looks part of the way: its key frames side by side, in a png."""

    type: Literal["video.preview"] = "video.preview"
    id: str
    number: int = Field(description="from 0")
    progress: int
    b64_json: str


def video_id(job: Job) -> str:
    """The id of the video that a job draws."""
    return VIDEO + job.id.removeprefix(JOB)


def video_answer(job: Job, urls: Sequence[str] = ()) -> VideoAnswer:
    """The video of a job; ``urls`` are those of its files, if it has any."""
    names = [note.name.partition(".")[0] for note in job.files]
    error = None if job.fault is None else fault_detail(job.fault)
    if job.status == "cancelled":
        error = CANCELLED
    values: dict[str, Any] = {
        **job.form["told"],
        "id": video_id(job),
        "status": "failed" if job.status == "cancelled" else job.status,
        "progress": job.progress,
        "created_at": int(job.created),
        "completed_at": whole(job.ended),
        "expires_at": whole(job.expires),
        "error": error,
        "urls": dict(zip(names, urls, strict=True)) if urls else None,
    }
    return Video(**values)


def video_event(video: VideoAnswer) -> tuple[str, BaseModel]:
    """The event that tells how a video is now."""
    values: dict[str, Any] = {"type": f"video.{video.status}", "video": video}
    return values["type"], VideoEvent(**values)


def preview_event(job: Job, number: int, data: bytes) -> tuple[str, BaseModel]:
    """The event that shows a preview."""
    event = VideoPreviewEvent(
        id=video_id(job), number=number, progress=job.progress, b64_json=base_64(data)
    )
    return event.type, event
