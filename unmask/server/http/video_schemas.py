"""The bodies of requests for videos: OpenAI's fields, and ours beside them."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from unmask.editing import DEFAULT_SHARE, MaskMode
from unmask.editing.clip_edits import MAX_FRAMES, Box
from unmask.pipeline.clips import MAX_SCENES
from unmask.pipeline.request import MAX_PROMPT_CHARACTERS
from unmask.server.http.bodies import (
    DATA_URL,
    SHARE,
    DrawingBody,
    Finite,
    ImageReference,
    Reference,
    Strength,
    told,
    with_sampling,
)

VideoFormat = Literal["mp4", "webm", "webp", "gif", "apng"]
SECONDS = r"[0-9]{1,10}(\.[0-9]{1,10})?"
MAX_PREVIEWS = 16


class ClipReference(Reference):
    """A clip: a video of the sender's, or a file in JSON."""

    id: str | None = Field(None, max_length=64, description="of a video that is completed")
    video_url: str | None = Field(
        None,
        description="data:video/mp4;base64,... ; other URLs are refused, for none is fetched",
        json_schema_extra={"pattern": DATA_URL},
    )

    @property
    def url(self) -> str | None:
        """Where it is, if it is a file."""
        return self.video_url

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.id is None) == (self.video_url is None):
            raise ValueError("give the id of a video, or a video_url")
        return self


class Length(BaseModel):
    """What lasts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    seconds: str | int | Finite | None = Field(
        None,
        description="to the nearest whole slot of the model, of which one has some frames",
        examples=["2"],
    )

    @field_validator("seconds")
    @classmethod
    def _is_a_number(cls, seconds: str | float | None) -> str | float | None:
        if isinstance(seconds, str) and not re.fullmatch(SECONDS, seconds):
            raise ValueError(f"{seconds[:40]!r} is no number of seconds; give 2 or the like")
        return seconds

    @property
    def given_seconds(self) -> float | None:
        """The seconds as a number."""
        return None if self.seconds is None else float(self.seconds)


class SceneBody(Length):
    """A scene with a prompt of its own."""

    prompt: str = Field(json_schema_extra=told(minLength=1, maxLength=MAX_PROMPT_CHARACTERS))
    seconds: str | int | Finite = Field(description="to the nearest whole slot of the model")


class VideoBody(DrawingBody):
    """What all bodies of requests for videos share."""

    output_format: VideoFormat | None = Field(
        None, description="the first of mp4, webm and webp that can be written, if absent"
    )
    fps: int | Finite | None = Field(None, description="only the rate that the model draws")


class KeptBody(VideoBody):
    """What those share that become jobs."""

    previews: int | None = Field(
        None, ge=0, le=MAX_PREVIEWS, description="that its events show while it is drawn"
    )
    stream: bool | None = Field(None, description="answer with the events of the new video")


class LastingBody(VideoBody, Length):
    """What those share that say how long."""

    frames: int | None = Field(
        None,
        description="instead of seconds",
        json_schema_extra=told(minimum=1, maximum=MAX_FRAMES),
    )


@with_sampling
class SyncVideoBody(LastingBody):
    """The body of POST /v1/videos/sync."""

    input_reference: ImageReference | None = Field(
        None, description="a picture that is the first frame, or a clip that comes first"
    )
    scenes: list[SceneBody] | None = Field(
        None,
        description="what comes after what the prompt tells",
        json_schema_extra=told(maxItems=MAX_SCENES),
    )


class NewVideoBody(SyncVideoBody, KeptBody):
    """The body of POST /v1/videos."""


@with_sampling
class ExtendVideoBody(LastingBody, KeptBody):
    """The body of POST /v1/videos/extensions: seconds and frames are what is added."""

    video: ClipReference | None = Field(None, description="what comes first")


@with_sampling
class EditVideoBody(KeptBody):
    """The body of POST /v1/videos/edits."""

    prompt: str = Field(
        description="may be empty", json_schema_extra=told(maxLength=MAX_PROMPT_CHARACTERS)
    )
    video: ClipReference | None = Field(None, description="what is drawn over")
    mask: ImageReference | None = Field(
        None, description="what is drawn anew: a picture for all frames, or a clip with one a frame"
    )
    mask_mode: MaskMode | None = Field(
        None,
        description="what a picture selects by: alpha 0, white, or auto: alpha if it has any",
    )
    box: Box | None = Field(
        None, description="what is drawn anew: left, top, right, bottom in pixels"
    )
    last_box: Box | None = Field(None, description="where the box has moved to in the last frame")
    strength: Strength = None
    share: Finite | None = Field(
        None,
        description="of the tokens that are masked at a time while the clip is revised (0, 1]; "
        f"{DEFAULT_SHARE} if there is neither a mask, nor a box, nor a strength",
        json_schema_extra=told(**SHARE),
    )


@with_sampling
class RemixBody(KeptBody):
    """The body of POST /v1/videos/{id}/remix."""

    share: Finite | None = Field(
        None,
        description="of the tokens that are masked at a time while the clip is revised (0, 1]; "
        f"{DEFAULT_SHARE} if absent",
        json_schema_extra=told(**SHARE),
    )
