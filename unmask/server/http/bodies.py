"""What the bodies of all requests that draw share, and how bodies are read.

The sampling fields are the options of all methods: they are gathered from these, never listed here.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from unmask.errors import RequestError, choices
from unmask.pipeline.request import (
    MAX_PROMPT_CHARACTERS,
    MAX_SUBJECT_WORDS,
    MAX_SUBJECTS,
    RANDOM_SEED,
)
from unmask.sampling.noise import SEED_BOUND
from unmask.sampling.options import FlatOption, flat_options
from unmask.sampling.planned import MAX_STEPS

Finite = Annotated[float, Field(allow_inf_nan=False)]
FileName = Literal["image", "mask", "input_reference", "video"]
FILE_NAMES: tuple[FileName, ...] = get_args(FileName)
DATA_URL = "^data:[^,]*;base64,"  # the only kind that is read
# Commas and brackets, in texts and out of them: two prompts of nothing else are half of it.
MAX_VALUES = 4096

SIZE = "auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"
SHARE = {"exclusiveMinimum": 0, "maximum": 1}
WORDS = {
    "maxItems": MAX_SUBJECTS,
    "items": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_SUBJECT_WORDS,
        "items": {"type": "string"},
    },
}


def _refuse_unless_null(value: object) -> None:
    if value is not None:
        raise ValueError("this server draws nothing of the kind: leave it out, or give null")


# What OpenAI's client declares and sends as null, and no model here can do.
Refused = Annotated[None, BeforeValidator(_refuse_unless_null)]


def told(**bounds: Any) -> Any:
    """Bounds and choices for the document; they are checked where requests are made, so that they
    are refused in the same words from everywhere."""

    def tell(schema: dict[str, Any]) -> None:
        # Null, which is as good as absent, knows no bounds.
        choice = next((c for c in schema.get("anyOf", []) if c.get("type") != "null"), schema)
        numbers = [*choice.get("prefixItems", []), choice.get("items")]
        # The bounds of a list of numbers are those of each.
        for part in numbers if "minimum" in bounds and "array" in choice["type"] else [choice]:
            if part is not None:
                part.update(bounds)

    return tell


Strength = Annotated[
    Finite | None,
    Field(
        description="share of the tokens that are drawn anew, the rest are kept (0, 1]",
        json_schema_extra=told(**SHARE),
    ),
]


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
    bounds: dict[str, Any] = {}
    if option.low is not None:
        bounds = {"minimum": option.low, "maximum": option.high}
    if option.choices:
        bounds["enum"] = list(option.choices)
    owners = f" ({', '.join(option.owners)})" if option.owners else ""
    tell = told(**bounds)

    def tell_all(schema: dict[str, Any]) -> None:
        tell(schema)
        if option.owners:
            schema["x-owners"] = list(option.owners)

    return Field(None, description=f"{option.meaning}{owners}", json_schema_extra=tell_all)


class DrawingBody(BaseModel):
    """What all bodies share. Absent and null both mean: the model's default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: str = Field(
        description="at most as many text tokens as the model's card says",
        json_schema_extra=told(minLength=1, maxLength=MAX_PROMPT_CHARACTERS),
    )
    model: str | None = Field(None, description="the name of a served model")
    size: str | None = Field(
        None,
        description="WxH, or auto: the size that is drawn anyway",
        json_schema_extra=told(pattern=f"^({SIZE})$"),
    )
    negative_prompt: str | None = Field(
        None, json_schema_extra=told(maxLength=MAX_PROMPT_CHARACTERS)
    )
    long_prompt: bool | None = Field(
        None,
        description="read more text tokens than the model's text encoder takes, in chunks; as many "
        "as max_long_prompt_text_tokens in the model's card says",
    )
    strict_prompt: bool | None = Field(
        None,
        description="refuse words that the model was not taught; else the answer has warnings",
    )
    seed: int | None = Field(
        None,
        description=f"random if absent or {RANDOM_SEED}; the answer tells it",
        json_schema_extra=told(minimum=RANDOM_SEED, maximum=SEED_BOUND - 1),
    )
    priority: Literal["normal", "low"] | None = Field(
        None, description="low waits while any other request does"
    )
    num_inference_steps: int | None = Field(
        None,
        description="another name of steps",
        json_schema_extra=told(minimum=1, maximum=MAX_STEPS),
    )
    subjects: list[list[str]] | None = Field(
        None,
        description="the words of each object in the prompt; found there if absent",
        json_schema_extra=told(**WORDS),
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
        if size is not None and not re.fullmatch(SIZE, size):
            raise ValueError("give WxH such as 64x64, or auto")
        return size

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        a, b = self.sampling.get("steps"), self.num_inference_steps
        if None not in (a, b) and a != b:
            raise RequestError(f"steps is {a} but num_inference_steps is {b}: give one", "steps")
        return self

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


class Reference(BaseModel):
    """What a body has in the place of a file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @property
    @abstractmethod
    def url(self) -> str | None:
        """Where it is; None if that is not told by a URL."""


class ImageReference(Reference):
    """A picture in JSON."""

    image_url: str = Field(
        description="data:image/png;base64,... ; other URLs are refused, for none is fetched",
        json_schema_extra={"pattern": DATA_URL},
    )

    @property
    def url(self) -> str:
        """Where it is."""
        return self.image_url


AnyBody = TypeVar("AnyBody", bound=DrawingBody)
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Upload(Generic[AnyBody]):
    """A body that was read: its checked fields, and the bytes of its files by name."""

    body: AnyBody
    files: Mapping[FileName, bytes]


def with_sampling(body: type[AnyBody]) -> type[AnyBody]:
    """The body and a field for each sampling option, all of which may be left out."""
    sampling: dict[str, Any] = {
        name: (_finite(option.type) | None, _sampling_field(option))
        for name, option in SAMPLING.items()
    }
    made: type[AnyBody] = create_model(
        body.__name__, __base__=body, __doc__=body.__doc__, **sampling
    )
    return made


def read_body(raw: bytes, kind: type[Model]) -> Model:
    """The body that the JSON holds; raises RequestError naming the first field that is wrong."""
    _check_values(raw)
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise _first_fault(error, kind) from None


def read_fields(parts: Mapping[str, Sequence[str]], kind: type[AnyBody]) -> AnyBody:
    """The body that the text parts of a form hold, checked like any JSON body.

    What is not a text is written as in JSON: ``2``, ``true``, ``[0.25, 0.75]``, and so is ``null``
    where a field may be null. A list may come as one part that holds it, or as a part a value.
    """
    known_types = _field_types(kind)
    members = []
    for name, texts in parts.items():
        types = known_types.get(name, frozenset())
        if len(texts) > 1 and "array" not in types:
            raise RequestError(f"{name}: it is there twice; send one", name[:64])
        if "array" in types and (len(texts) > 1 or not texts[0].lstrip().startswith(("[", "n"))):
            value = f"[{', '.join(_json_value(name, text) for text in texts)}]"
        elif texts[0] == "null" and "null" in types:
            value = "null"
        elif "string" in types or not types:
            value = json.dumps(texts[0])
        else:
            value = _json_value(name, texts[0])
        members.append(f"{json.dumps(name)}: {value}")
    return read_body(("{" + ", ".join(members) + "}").encode(), kind)


def _json_value(name: str, text: str) -> str:
    """The text, if it is one whole JSON value: so it may stand in JSON as it is."""
    _check_values(text.encode(), name)
    try:
        from_json(text)
    except ValueError:
        raise RequestError(
            f"{name}: {text[:40]!r} is no JSON; write 2, true, [0.2, 0.7] or the like", name
        ) from None
    return text


def _check_values(raw: bytes, name: str | None = None) -> None:
    """RequestError for what holds too many values to look at: a megabyte of numbers, each wrong,
    would hold everybody up for a second, and the lock of the interpreter with it."""
    count = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if count > MAX_VALUES:
        message = f"{count} commas and brackets; at most {MAX_VALUES} are read"
        raise RequestError(f"{name or 'the body'}: it has {message}", name)


@cache
def field_bounds(kind: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The bounds and choices of each field that has any, in the words of JSON Schema; those of a
    list of numbers are of each."""
    words = ("minimum", "maximum", "exclusiveMinimum", "maxLength", "maxItems", "enum")
    bounds = {}
    for name, schema in kind.model_json_schema()["properties"].items():
        parts = [schema, *schema.get("anyOf", [])]
        parts += [item for part in parts[1:] for item in part.get("prefixItems", [])]
        parts += [part["items"] for part in parts if isinstance(part.get("items"), dict)]
        told = {word: part[word] for part in reversed(parts) for word in words if word in part}
        if told:
            bounds[name] = told
    return bounds


@cache
def _field_types(kind: type[BaseModel]) -> dict[str, frozenset[str]]:
    """The JSON types that each field may have, by its name."""
    properties = kind.model_json_schema()["properties"]
    return {
        name: frozenset(choice.get("type", "") for choice in schema.get("anyOf", [schema]))
        for name, schema in properties.items()
    }


def _first_fault(error: ValidationError, kind: type[BaseModel]) -> RequestError:
    fault = error.errors(include_url=False, include_input=False)[0]
    if not fault["loc"]:
        return RequestError(f"the body must be a JSON object as in /docs: {fault['msg']}")
    param = str(fault["loc"][0])[:64]
    if fault["type"] == "extra_forbidden":
        known = choices(param, kind.model_fields)
        return RequestError(f"unknown field {param!r}: {known}", param)
    reason = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{param}: {reason}", param)
