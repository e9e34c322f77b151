"""The bodies of requests and answers: OpenAI's image fields, and ours beside them.

The sampling fields are the options of all methods: they are gathered from these, never listed here.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from unmask.editing import DEFAULT_SHARE, DEFAULT_STRENGTH, MAX_FEATHER
from unmask.encoding import ImageFormat
from unmask.errors import RequestError, choices
from unmask.sampling.options import FlatOption, flat_options

Finite = Annotated[float, Field(allow_inf_nan=False)]
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]

# Quality is a number of steps: the one thing a masked model spends more time on.
STEPS = {"low": 8, "medium": 12, "high": 16, "xhigh": 24, "max": 32}
LEGACY = {"standard": "medium", "hd": "high"}
# Commas and brackets, in texts and out of them: two prompts of nothing else are half of it.
MAX_VALUES = 4096


def _finite(hint: Any) -> Any:
    """The type with every float in it bound to be a number."""
    if hint is float:
        return Finite
    parts = tuple(_finite(part) for part in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, parts)
    return get_origin(hint)[parts] if get_origin(hint) is tuple else hint


SAMPLING = flat_options()


def _sampling_field(option: FlatOption) -> Any:
    """A field that may be left out. Its bounds and choices are told, and checked with all others
    where a request is made: so they are refused in the same words everywhere."""
    told: dict[str, Any] = {}
    if option.low is not None:
        told |= {"minimum": option.low, "maximum": option.high}
    if option.choices:
        told["enum"] = [*option.choices, None]
    owners = f" ({', '.join(option.owners)})" if option.owners else ""
    description = f"{option.meaning}{owners}"
    if get_origin(option.type) is tuple and option.low is not None:
        # The bounds are those of each number.
        told = {}
        description += f"; numbers from {option.low:g} to {option.high:g}"
    return Field(None, description=description, json_schema_extra=told)


class ImageBody(BaseModel):
    """What all bodies share. Absent and null both mean: the model's default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: str
    model: str | None = None
    n: int | None = Field(None, description="number of images; image i is drawn from (seed, i)")
    size: str | None = Field(None, description="WxH, or auto: the size that is drawn anyway")
    quality: Quality | None = Field(None, description=f"steps, unless steps is given: {STEPS}")
    output_format: ImageFormat | None = None
    output_compression: int | None = Field(None, ge=0, le=100, description="webp and jpeg only")
    background: Literal["auto", "opaque", "transparent"] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3, description="previews in a stream")
    safety_identifier: str | None = Field(None, max_length=256, description="echoed")

    moderation: str | None = Field(None, description="a hint, ignored")
    style: str | None = Field(None, description="a hint, ignored")
    complexity: str | None = Field(None, description="a hint, ignored")
    user: str | None = Field(None, description="a hint, ignored")

    negative_prompt: str | None = None
    seed: int | None = Field(None, description="random if absent; the answer tells it")
    priority: Literal["normal", "low"] | None = Field(
        None, description="low waits while any other request does"
    )
    num_inference_steps: int | None = Field(None, description="another name of steps")
    subjects: list[list[str]] | None = Field(
        None, description="the words of each object in the prompt; found there if absent"
    )

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

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        a, b = self.sampling.get("steps"), self.num_inference_steps
        if None not in (a, b) and a != b:
            raise RequestError(f"steps is {a} but num_inference_steps is {b}: give one", "steps")
        return self

    @model_validator(mode="after")
    def _previews_need_a_stream(self) -> Self:
        if self.partial_images and not self.stream:
            raise RequestError("partial_images needs stream: true", "partial_images")
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
    def sampling(self) -> dict[str, Any]:
        """The sampling fields that are given, by their names."""
        given = {name: getattr(self, name, None) for name in SAMPLING}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def given_steps(self) -> int | None:
        """The steps asked for under either name."""
        steps: int | None = self.sampling.get("steps", self.num_inference_steps)
        return steps

    @property
    def used_quality(self) -> str | None:
        """The quality that decides the steps, in today's words; None if it does not decide."""
        if self.quality in (None, "auto") or self.given_steps is not None:
            return None
        return LEGACY.get(self.quality, self.quality)


Body = TypeVar("Body", bound=ImageBody)


def _with_sampling(body: type[Body]) -> type[Body]:
    """The body and a field for each sampling option, all of which may be left out."""
    sampling: dict[str, Any] = {
        name: (_finite(option.type) | None, _sampling_field(option))
        for name, option in SAMPLING.items()
    }
    made: type[Body] = create_model(body.__name__, __base__=body, __doc__=body.__doc__, **sampling)
    return made


@_with_sampling
class GenerationBody(ImageBody):
    """The body of POST /v1/images/generations. Absent and null both mean: the default."""


@_with_sampling
class EditBody(ImageBody):
    """The fields of POST /v1/images/edits, beside its files."""

    strength: Finite | None = Field(
        None, description="share of the tokens that are drawn anew, the rest are kept (0, 1]"
    )
    share: Finite | None = Field(
        None,
        description="of the tokens that are masked at a time while the picture is revised (0, 1]; "
        f"{DEFAULT_SHARE} if there is neither a mask, nor transparency, nor a strength",
    )
    feather: int | None = Field(None, description=f"px, blends inside the mask, 0 to {MAX_FEATHER}")
    input_fidelity: Literal["high", "low"] | None = Field(None, description="a hint, ignored")


@_with_sampling
class OutpaintBody(ImageBody):
    """The fields of POST /v1/images/outpaint, beside its file."""

    left: int | None = Field(None, description="px to draw on the left of the image")
    right: int | None = Field(None, description="px to draw on its right")
    top: int | None = Field(None, description="px to draw above it")
    bottom: int | None = Field(None, description="px to draw below it")
    feather: int | None = Field(
        None, description=f"px, blends what is drawn into the image's rim, 0 to {MAX_FEATHER}"
    )


@_with_sampling
class VariationBody(ImageBody):
    """The fields of POST /v1/images/variations, beside its file."""

    prompt: str = ""
    strength: Finite | None = Field(
        None,
        description="share of the tokens that are drawn anew, the rest are kept (0, 1]; "
        f"{DEFAULT_STRENGTH} if absent",
    )


def read_body(raw: bytes, kind: type[Body]) -> Body:
    """The body that the JSON holds; raises RequestError naming the first field that is wrong."""
    _check_values(raw)
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise _first_fault(error, kind) from None


def read_fields(texts: Mapping[str, str], kind: type[Body]) -> Body:
    """The body that the text fields of a form hold, checked like any JSON body.

    What is not a text is written as in JSON: ``2``, ``true``, ``[0.25, 0.75]``.
    """
    takes_text = _text_fields(kind)
    members = []
    for name, text in texts.items():
        value = json.dumps(text)
        if not takes_text.get(name, True):
            _check_values(text.encode(), name)
            try:
                from_json(text)
            except ValueError:
                raise RequestError(
                    f"{name}: {text[:40]!r} is no JSON; write 2, true, [0.2, 0.7] or the like",
                    name,
                ) from None
            value = text  # one whole JSON value, so it may stand in JSON as it is
        members.append(f"{json.dumps(name)}: {value}")
    return read_body(("{" + ", ".join(members) + "}").encode(), kind)


def _check_values(raw: bytes, name: str | None = None) -> None:
    """RequestError for what holds too many values to look at: a megabyte of numbers, each wrong,
    would hold everybody up for a second, and the lock of the interpreter with it."""
    count = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if count > MAX_VALUES:
        message = f"{count} commas and brackets; at most {MAX_VALUES} are read"
        raise RequestError(f"{name or 'the body'}: it has {message}", name)


@cache
def _text_fields(kind: type[ImageBody]) -> dict[str, bool]:
    """Which fields may be texts, by name."""
    properties = kind.model_json_schema()["properties"]
    return {name: _takes_text(schema) for name, schema in properties.items()}


def _takes_text(schema: dict[str, Any]) -> bool:
    return any(choice.get("type") == "string" for choice in schema.get("anyOf", [schema]))


def _first_fault(error: ValidationError, kind: type[ImageBody]) -> RequestError:
    fault = error.errors(include_url=False, include_input=False)[0]
    if not fault["loc"]:
        return RequestError(f"the body must be a JSON object as in /docs: {fault['msg']}")
    param = str(fault["loc"][0])[:64]
    if fault["type"] == "extra_forbidden":
        known = choices(param, kind.model_fields)
        return RequestError(f"unknown field {param!r}: {known}", param)
    reason = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{param}: {reason}", param)


class ImageData(BaseModel):
    """One image; the same (seed, image_index) and parameters give it again."""

    b64_json: str
    seed: int
    image_index: int


class Usage(BaseModel):
    """What was read and drawn, in tokens: those of the prompt, and those of the images."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    total_tokens: int


class Timings(BaseModel):
    """Where the seconds went."""

    queue: float
    generate: float
    encode: float


class EditSummary(BaseModel):
    """What was drawn over: enough to tell one edit from another."""

    kind: str
    feather: int
    sha256: str
    strength: float | None = None
    share: float | None = None


class ImagesAnswer(BaseModel):
    """OpenAI's ImagesResponse, then the values the images were drawn from."""

    created: int
    data: list[ImageData]
    background: Literal["opaque", "transparent"]
    output_format: ImageFormat
    quality: str | None
    size: str
    safety_identifier: str | None
    usage: Usage

    model: str
    seed: int
    timings: Timings
    subjects: tuple[tuple[str, ...], ...]
    edit: EditSummary | None


_resolved: dict[str, Any] = {
    name: (option.type | None, Field(None, description=f"{option.meaning}; absent if it is idle"))
    for name, option in SAMPLING.items()
}
ImageAnswer = create_model(
    "ImageAnswer", __base__=ImagesAnswer, __doc__=ImagesAnswer.__doc__, **_resolved
)


class ModelCard(BaseModel):
    """OpenAI's Model, then whether it is loaded, and what it can do: known once it was loaded."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "unmask"
    state: Literal["absent", "loading", "loaded", "failed"]
    reason: str | None = Field(None, description="why it could not be loaded")
    description: str | None = None
    size: str | None = None
    grid: tuple[int, ...] | None = None
    parameters: int | None = None
    codebook_size: int | None = None
    condition: str | None = None
    schedulers: tuple[str, ...] | None = None
    mask_schedules: tuple[str, ...] | None = None
    guidances: tuple[str, ...] | None = None
    count_rules: tuple[str, ...] | None = None
    reuse_policies: tuple[str, ...] | None = None
    max_steps: int | None = None
    max_n: int | None = None
    max_prompt_characters: int | None = None


class ModelList(BaseModel):
    """All models that this server draws with."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Status(BaseModel):
    """What the probes answer when all is well."""

    status: Literal["live", "ready"]
