"""The bodies of requests and answers: OpenAI's image fields, and ours beside them."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from unmask.errors import RequestError, choices
from unmask.server.encoding import ImageFormat

Finite = Annotated[float, Field(allow_inf_nan=False)]
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]

# Quality is a number of steps: the one thing a masked model spends more time on.
STEPS = {"low": 8, "medium": 12, "high": 16, "xhigh": 24, "max": 32}
LEGACY = {"standard": "medium", "hd": "high"}


class ImageBody(BaseModel):
    """The body of POST /v1/images/generations. Absent and null both mean: the model's default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: str
    model: str | None = None
    n: int | None = Field(None, description="number of images; image i is drawn from (seed, i)")
    size: str | None = Field(None, description="WxH, or auto: the size the model was trained at")
    quality: Quality | None = Field(None, description=f"steps, unless steps is given: {STEPS}")
    output_format: ImageFormat | None = None
    output_compression: int | None = Field(None, ge=0, le=100, description="webp and jpeg only")
    background: Literal["auto", "opaque", "transparent"] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    safety_identifier: str | None = Field(None, max_length=256, description="echoed")

    moderation: str | None = Field(None, description="a hint, ignored")
    style: str | None = Field(None, description="a hint, ignored")
    complexity: str | None = Field(None, description="a hint, ignored")
    user: str | None = Field(None, description="a hint, ignored")

    negative_prompt: str | None = None
    seed: int | None = Field(None, description="random if absent; the answer tells it")
    steps: int | None = None
    num_inference_steps: int | None = Field(None, description="another name of steps")
    scheduler: str | None = None
    mask_schedule: str | None = None
    temperature: Finite | None = None
    choice_temperature: Finite | None = None
    guidance_scale: Finite | None = None
    guidance: str | None = None
    guidance_interval: tuple[Finite, Finite] | None = None

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _no_nul(cls, text: str | None) -> str | None:
        if text and "\0" in text:
            raise ValueError("a NUL character is not text")
        return text

    @field_validator("size")
    @classmethod
    def _size_is_wxh(cls, size: str | None) -> str | None:
        if size not in (None, "auto") and not re.fullmatch("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", size):
            raise ValueError("give WxH such as 64x64, or auto")
        return size

    @field_validator("background")
    @classmethod
    def _background_is_opaque(cls, background: str | None) -> str | None:
        if background == "transparent":
            raise ValueError("the model draws no transparency: choose opaque or auto")
        return background

    @field_validator("response_format")
    @classmethod
    def _results_are_not_kept(cls, response_format: str | None) -> str | None:
        if response_format == "url":
            raise ValueError("images are not stored, so they have no url: choose b64_json")
        return response_format

    @field_validator("stream", "partial_images")
    @classmethod
    def _no_stream(cls, value: bool | int | None) -> bool | int | None:
        if value:
            raise ValueError("streaming is not supported yet")
        return value

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        if None not in (a := self.steps, b := self.num_inference_steps) and a != b:
            raise RequestError(f"steps is {a} but num_inference_steps is {b}: give one", "steps")
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
    def width_height(self) -> tuple[int, int] | None:
        """The size as numbers, or None for the model's own."""
        if self.size in (None, "auto"):
            return None
        width, height = self.size.split("x")
        return int(width), int(height)

    @property
    def given_steps(self) -> int | None:
        """The steps asked for under either name."""
        return self.num_inference_steps if self.steps is None else self.steps

    @property
    def used_quality(self) -> str | None:
        """The quality that decides the steps, in today's words; None if it does not decide."""
        if self.quality in (None, "auto") or self.given_steps is not None:
            return None
        return LEGACY.get(self.quality, self.quality)


def read_body(raw: bytes) -> ImageBody:
    """The body that the bytes hold; raises RequestError naming the first field that is wrong."""
    try:
        return ImageBody.model_validate_json(raw)
    except ValidationError as error:
        raise _first_fault(error) from None


def _first_fault(error: ValidationError) -> RequestError:
    fault = error.errors(include_url=False, include_input=False)[0]
    if not fault["loc"]:
        return RequestError(f"the body must be a JSON object as in /docs: {fault['msg']}")
    param = str(fault["loc"][0])[:64]
    if fault["type"] == "extra_forbidden":
        known = choices(param, ImageBody.model_fields)
        return RequestError(f"unknown field {param!r}: {known}", param)
    reason = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{param}: {reason}", param)


class ImageData(BaseModel):
    """One image; the same (seed, image_index) and parameters give it again."""

    b64_json: str
    seed: int
    image_index: int


class Timings(BaseModel):
    """Where the seconds went."""

    queue: float
    generate: float
    encode: float


class ImageAnswer(BaseModel):
    """OpenAI's ImagesResponse, then the values the images were drawn from."""

    created: int
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: ImageFormat
    quality: str | None
    size: str
    safety_identifier: str | None

    model: str
    seed: int
    steps: int
    scheduler: str
    mask_schedule: str
    temperature: float
    choice_temperature: float
    guidance_scale: float
    guidance: str
    guidance_interval: tuple[float, float]
    timings: Timings


class ModelCard(BaseModel):
    """OpenAI's Model, then what the model can do."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "unmask"
    description: str
    size: str
    grid: tuple[int, int]
    parameters: int
    codebook_size: int
    condition: str
    schedulers: tuple[str, ...]
    mask_schedules: tuple[str, ...]
    guidances: tuple[str, ...]
    max_steps: int
    max_n: int
    max_prompt_characters: int


class ModelList(BaseModel):
    """All models that this server draws with."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Status(BaseModel):
    """What the probes answer when all is well."""

    status: Literal["live", "ready"]
