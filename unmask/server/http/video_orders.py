"""From what a sender asks for to the order of a video: one way, whether it is answered at once or
later."""

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from starlette.concurrency import run_in_threadpool

from unmask.clips import Clip
from unmask.clips.formats import FORMATS, check_format, default_format
from unmask.encoding import encode, parameters, size_text
from unmask.errors import RequestError, UnavailableError
from unmask.server.engine.costs import OpenedModel
from unmask.server.engine.face import EngineFace
from unmask.server.http.bodies import Upload
from unmask.server.http.order import DrawingOrder, model_name, resolve
from unmask.server.http.video_edits import (
    VideoReading,
    Want,
    edited_video,
    extended_video,
    new_video,
    remixed_video,
)
from unmask.server.http.video_schemas import (
    EditVideoBody,
    ExtendVideoBody,
    NewVideoBody,
    RemixBody,
    SyncVideoBody,
    VideoBody,
)
from unmask.server.jobs.kinds import ResultFile
from unmask.settings import Settings

AnyVideo = TypeVar("AnyVideo", bound=VideoBody)
PICTURE = "image/png"


@dataclass(frozen=True)
class VideoKind(Generic[AnyVideo]):
    """A kind of request for videos: what its body is, and what it asks of a model."""

    name: str
    body: type[AnyVideo]
    want: Want


NEW = VideoKind("videos.generation", NewVideoBody, new_video)
EDIT = VideoKind("videos.edit", EditVideoBody, edited_video)
EXTENSION = VideoKind("videos.extension", ExtendVideoBody, extended_video)
REMIX = VideoKind("videos.remix", RemixBody, remixed_video)
VIDEO_KINDS: tuple[VideoKind[Any], ...] = (NEW, EDIT, EXTENSION, REMIX)
SYNC = VideoKind("videos.sync", SyncVideoBody, new_video)  # which is no job


@dataclass(frozen=True)
class VideoOrder(DrawingOrder):
    """An order of a video."""

    body: VideoBody
    video_format: str

    @property
    def told(self) -> dict[str, Any]:
        """What is known of the video from now on, as JSON: the values that it is drawn from."""
        request, frames, rate = self.request, self.request.frames, self.model.rate
        assert frames is not None, "it is a clip"
        assert rate is not None, "the model draws clips"
        return {
            "model": self.model.name,
            "prompt": request.prompt,
            "size": size_text(request.size),
            "seconds": f"{frames / rate:g}",
            "frames": frames,
            "fps": rate,
            "seed": request.seed,
            "output_format": self.video_format,
            "edit": None if request.edit is None else request.edit.summary(),
            "warnings": [warning.model_dump() for warning in self.warnings or ()] or None,
            **request.options.flat(),
        }

    @property
    def media_type(self) -> str:
        """That of the file."""
        return FORMATS[self.video_format].media_type

    def file(self, clip: Clip) -> bytes:
        """The clip as the body asks for it."""
        comment = parameters(self.request, self.model.name)
        return replace(clip, comment=comment).encode(self.video_format)

    def files(self, clip: Clip) -> tuple[ResultFile, ...]:
        """All that is kept of a clip; of the sheet it can be read back without loss."""
        pictures = {"thumbnail": clip.thumbnail(), "spritesheet": clip.spritesheet()}
        text = parameters(self.request, self.model.name)
        return (
            ResultFile(f"video.{self.video_format}", self.media_type, self.file(clip)),
            *(
                ResultFile(f"{name}.png", PICTURE, encode(picture, "png", 100, text))
                for name, picture in pictures.items()
            ),
        )


async def make_video_order(
    engine: EngineFace,
    settings: Settings,
    kind: VideoKind[AnyVideo],
    upload: Upload[AnyVideo],
    sender: str,
) -> VideoOrder:
    """The order of the sender of that name, checked and weighed. RequestError, QueueFullError,
    UnavailableError."""
    body: VideoBody = upload.body
    model = await open_model(engine, model_name(body))
    video_format = await run_in_threadpool(_format, body.output_format)
    reading = VideoReading(model.pipeline.info, settings.max_upload_bytes)
    if body.fps not in (None, reading.rate):
        raise RequestError(
            f"fps {body.fps:g}: model {reading.info.name!r} draws {reading.rate:g} frames a second "
            "only",
            "fps",
        )
    wanted = await run_in_threadpool(kind.want, upload, reading)
    resolved = await run_in_threadpool(lambda: resolve(body, model.pipeline, **wanted))
    weighed = await engine.weigh(resolved, model)
    return VideoOrder(body, weighed, sender, settings.request_timeout_seconds, video_format)


async def open_model(engine: EngineFace, name: str | None) -> OpenedModel:
    """The model of that name, or the first that draws clips. RequestError if it draws none,
    UnavailableError."""
    if name is not None:
        model = await engine.open(name)
        if model.pipeline.info.slot is None:
            message = "draws pictures, not clips; choose another model, or leave it out"
            raise RequestError(f"model {name[:64]!r} {message}", "model")
        return model
    unavailable: UnavailableError | None = None
    for status in engine.models:
        if status.info is not None and status.info.slot is None:
            continue
        try:
            model = await engine.open(status.name)
        except UnavailableError as error:
            unavailable = error
            continue
        if model.pipeline.info.slot is not None:
            return model
    if unavailable is not None:
        raise unavailable
    names = ", ".join(status.name for status in engine.models)
    raise RequestError(f"model: none of this server's draws clips: {names}", "model")


def _format(name: str | None) -> str:
    if name is None:
        return default_format()
    try:
        check_format(name)
    except RequestError as error:
        raise type(error)(f"output_{error}", "output_format") from None
    return name
