"""The bodies of requests for pictures: OpenAI's image fields, and ours beside them."""

from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from unmask.editing import DEFAULT_SHARE, DEFAULT_STRENGTH, MAX_FEATHER, MAX_PIXELS, MaskMode
from unmask.encoding import ImageFormat
from unmask.errors import RequestError
from unmask.pipeline.request import MAX_IMAGE_INDEX, MAX_IMAGES, MAX_PROMPT_CHARACTERS
from unmask.server.http.bodies import (
    SHARE,
    DrawingBody,
    Finite,
    Refused,
    Strength,
    told,
    with_sampling,
)

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]

# Quality is a number of steps: the one thing a masked model spends more time on.
STEPS = {"low": 8, "medium": 12, "high": 16, "xhigh": 24, "max": 32}
LEGACY = {"standard": "medium", "hd": "high"}
FEATHER = {"minimum": 0, "maximum": MAX_FEATHER}
SIDE = {"minimum": 0, "maximum": MAX_PIXELS}


class ImageBody(DrawingBody):
    """What all bodies of requests for pictures share."""

    n: int | None = Field(
        None,
        description="number of images; image i is drawn from (seed, i)",
        json_schema_extra=told(minimum=1, maximum=MAX_IMAGES),
    )
    quality: Quality | None = Field(None, description=f"steps, unless steps is given: {STEPS}")
    output_format: ImageFormat | None = None
    output_compression: int | None = Field(None, ge=0, le=100, description="webp and jpeg only")
    background: Literal["auto", "opaque", "transparent"] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3, description="previews in a stream")
    trace: bool | None = Field(
        None, description="in a stream: an event a step that tells what became of each cell"
    )
    safety_identifier: str | None = Field(None, max_length=256, description="echoed")

    moderation: str | None = Field(None, description="a hint, ignored")
    style: str | None = Field(None, description="a hint, ignored")
    complexity: str | None = Field(None, description="a hint, ignored")
    user: str | None = Field(None, description="a hint, ignored")
    frame_count: Refused = Field(None, description="only null: no animation is drawn")
    frame_duration_ms: Refused = Field(None, description="only null: no animation is drawn")
    svg: Refused = Field(None, description="only null: no vector graphics are drawn")

    image_index: int | None = Field(
        None,
        description="index of the first image; 0 if absent",
        json_schema_extra=told(minimum=0, maximum=MAX_IMAGE_INDEX),
    )

    @field_validator("background")
    @classmethod
    def _background_is_opaque(cls, background: str | None) -> str | None:
        if background == "transparent":
            raise ValueError("the model draws no transparency: choose opaque or auto")
        return background

    @model_validator(mode="after")
    def _events_need_a_stream(self) -> Self:
        if self.partial_images and not self.stream:
            raise RequestError("partial_images needs stream: true", "partial_images")
        if self.trace and not self.stream:
            raise RequestError("trace needs stream: true", "trace")
        return self

    @model_validator(mode="after")
    def _png_is_lossless(self) -> Self:
        if self.image_format == "png" and self.image_quality != 100:
            message = "png loses nothing, so output_compression must be 100: choose webp or jpeg"
            raise RequestError(message, "output_compression")
        return self

    @property
    def image_format(self) -> ImageFormat:
        """The format of the files; png unless asked otherwise."""
        return self.output_format or "png"

    @property
    def image_quality(self) -> int:
        """The quality of webp and jpeg, 0 to 100."""
        return 100 if self.output_compression is None else self.output_compression

    @property
    def judged(self) -> bool:
        """Whether the images are to be judged."""
        return False

    @property
    def used_quality(self) -> str | None:
        """The quality that decides the steps, in today's words; None if it does not decide."""
        if self.quality in (None, "auto") or self.given_steps is not None:
            return None
        return LEGACY.get(self.quality, self.quality)


Body = TypeVar("Body", bound=ImageBody)


@with_sampling
class GenerationBody(ImageBody):
    """The body of POST /v1/images/generations. Absent and null both mean: the default."""

    judge: bool | None = Field(
        None, description="tell of each image whether it shows what the prompt asks for"
    )

    @property
    def judged(self) -> bool:
        """Whether the images are to be judged."""
        return bool(self.judge)


@with_sampling
class EditBody(ImageBody):
    """The fields of POST /v1/images/edits, beside its files."""

    prompt: str = Field(
        description="may be empty", json_schema_extra=told(maxLength=MAX_PROMPT_CHARACTERS)
    )
    strength: Strength = None
    share: Finite | None = Field(
        None,
        description="of the tokens that are masked at a time while the picture is revised (0, 1]; "
        f"{DEFAULT_SHARE} if there is neither a mask, nor transparency, nor a strength",
        json_schema_extra=told(**SHARE),
    )
    feather: int | None = Field(
        None,
        description=f"px, blends inside the mask, 0 to {MAX_FEATHER}",
        json_schema_extra=told(**FEATHER),
    )
    mask_mode: MaskMode | None = Field(
        None,
        description="what the mask selects by: alpha 0, white, or auto: alpha if it has any",
    )
    markup: Refused = Field(None, description="only null: no strokes are read; give a mask")
    input_fidelity: Literal["high", "low"] | None = Field(None, description="a hint, ignored")


@with_sampling
class OutpaintBody(ImageBody):
    """The fields of POST /v1/images/outpaint, beside its file."""

    prompt: str = Field(
        description="may be empty", json_schema_extra=told(maxLength=MAX_PROMPT_CHARACTERS)
    )
    left: int | None = Field(
        None, description="px to draw on the left of the image", json_schema_extra=told(**SIDE)
    )
    right: int | None = Field(
        None, description="px to draw on its right", json_schema_extra=told(**SIDE)
    )
    top: int | None = Field(None, description="px to draw above it", json_schema_extra=told(**SIDE))
    bottom: int | None = Field(
        None, description="px to draw below it", json_schema_extra=told(**SIDE)
    )
    feather: int | None = Field(
        None,
        description=f"px, blends what is drawn into the image's rim, 0 to {MAX_FEATHER}",
        json_schema_extra=told(**FEATHER),
    )


@with_sampling
class VariationBody(ImageBody):
    """The fields of POST /v1/images/variations, beside its file."""

    prompt: str = Field("", json_schema_extra=told(maxLength=MAX_PROMPT_CHARACTERS))
    strength: Finite | None = Field(
        None,
        description="share of the tokens that are drawn anew, the rest are kept (0, 1]; "
        f"{DEFAULT_STRENGTH} if absent",
        json_schema_extra=told(**SHARE),
    )
