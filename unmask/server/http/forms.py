"""Bodies that hold pictures: forms with files, or JSON with data URLs. Their other fields are
checked alike."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from unmask.errors import RequestError, choices
from unmask.server.http.schemas import FileName, ImageBody, Upload, read_body, read_fields

MAX_FILES = 17  # OpenAI's client sends up to 16 images and a mask, to be refused in our words
MAX_FIELDS = 200
MAX_FIELD_BYTES = 1 << 16
MAX_EDIT_IMAGES = 1  # no family here reads several

FORM, JSON = "multipart/form-data", "application/json"
Model = TypeVar("Model", bound=BaseModel)
EditedBody = TypeVar("EditedBody", bound=ImageBody)


class JsonReader(Generic[Model]):
    """A dependency that reads the JSON body of one route. FastAPI's own parser lets NaN and lone
    surrogates pass."""

    def __init__(self, kind: type[Model]) -> None:
        self.kind = kind

    async def __call__(self, request: Request) -> Model:
        """RequestError names the field that is wrong; another content type is HTTP 415."""
        if _media_type(request) != JSON:
            raise HTTPException(415, f"send the header Content-Type: {JSON}")
        return await run_in_threadpool(read_body, await request.body(), self.kind)

    @property
    def schema(self) -> dict[str, Any]:
        """What the document says of such bodies."""
        content = {JSON: {"schema": inlined(self.kind.model_json_schema())}}
        return {"requestBody": {"required": True, "content": content}}


class ImageReference(BaseModel):
    """A picture in JSON."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    image_url: str = Field(
        description="data:image/png;base64,... ; other URLs are refused, for none is fetched",
        json_schema_extra={"pattern": "^data:[^,]*;base64,"},
    )


class UploadReader(Generic[EditedBody]):
    """A dependency that reads uploads of one route; of their pictures the image is required."""

    def __init__(self, kind: type[EditedBody], files: Sequence[FileName] = ("image",)) -> None:
        self.kind, self.files = kind, files
        references: dict[str, Any] = {
            "images": (list[ImageReference], Field(min_length=1, max_length=MAX_EDIT_IMAGES))
        }
        if "mask" in files:
            references["mask"] = (ImageReference | None, None)
        self._json_kind = create_model(f"{kind.__name__}Json", __base__=kind, **references)

    async def __call__(self, request: Request) -> Upload[EditedBody]:
        """RequestError names the field that is wrong; another content type is HTTP 415."""
        media_type = _media_type(request)
        if media_type == JSON:
            return await run_in_threadpool(self._read_json, await request.body())
        if media_type != FORM:
            raise HTTPException(415, f"send a form or JSON: Content-Type: {FORM}, or {JSON}")
        limits = {"max_files": MAX_FILES, "max_fields": MAX_FIELDS}
        try:
            async with request.form(**limits, max_part_size=MAX_FIELD_BYTES) as form:
                return await self._read_form(form)
        except HTTPException as error:
            if error.status_code != 400:
                raise
            raise RequestError(f"the form cannot be read: {error.detail}") from None

    @property
    def schema(self) -> dict[str, Any]:
        """What the document says of such bodies."""
        form = self.kind.model_json_schema()
        binary = {name: {"type": "string", "format": "binary"} for name in self.files}
        form["properties"] = binary | form["properties"]
        form["required"] = ["image", *form.get("required", [])]
        contents = {FORM: form, JSON: inlined(self._json_kind.model_json_schema())}
        content = {media_type: {"schema": schema} for media_type, schema in contents.items()}
        return {"requestBody": {"required": True, "content": content}}

    def _read_json(self, raw: bytes) -> Upload[EditedBody]:
        body: Any = read_body(raw, self._json_kind)
        references = {"image": body.images[0], "mask": getattr(body, "mask", None)}
        files: dict[FileName, bytes] = {
            name: _data(name, references[name].image_url)
            for name in self.files
            if references[name] is not None
        }
        # Who waits for its turn need not hold its pictures twice.
        return Upload(body.model_copy(update={"images": [], "mask": None}), files)

    async def _read_form(self, form: FormData) -> Upload[EditedBody]:
        files: dict[FileName, bytes] = {}
        parts: defaultdict[str, list[str]] = defaultdict(list)
        spellings: dict[str, str] = {}
        for key, value in form.multi_items():
            name = _field_name(key)
            if spellings.setdefault(name, key) != key:
                raise RequestError(f"{name}: it is there twice; send one", name[:64])
            if isinstance(value, UploadFile):
                known = next((file for file in self.files if file == name), None)
                if known is None:
                    raise RequestError(self._no_such_file(name), name[:64])
                if known in files:
                    raise RequestError(_too_many(known), known)
                files[known] = await value.read()
            elif name in self.files:
                raise RequestError(f"{name}: send it as a file, that is, with a filename", name)
            else:
                parts[name].append(value)
        if "image" not in files:
            raise RequestError("image: it is missing; send it as a file", "image")
        return Upload(await run_in_threadpool(read_fields, parts, self.kind), files)

    def _no_such_file(self, name: str) -> str:
        if name == "markup":
            return "markup: this server reads no strokes; give a mask"
        return f"{name[:64]!r} is no file of this form: {choices(name[:64], self.files)}"


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions put where they are referred to, as it stands in a larger
    document."""
    definitions = schema.pop("$defs", {})

    def put(part: Any) -> Any:
        if isinstance(part, list):
            return [put(member) for member in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return put(definitions[part["$ref"].rpartition("/")[2]])
        return {key: put(value) for key, value in part.items()}

    whole: dict[str, Any] = put(schema)
    return whole


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _field_name(key: str) -> str:
    """The field that a part belongs to: OpenAI's client sends a list as name[], even one of files,
    and an object's members as name[member]."""
    name, bracket, inner = key.partition("[")
    if bracket and inner != "]":
        # A list of lists as name[][] has lost where the inner ones ended.
        raise RequestError(
            f"{name[:64]}: write lists of lists and objects as JSON, in one part: "
            'json.dumps([["red", "apple"], ["blue", "book"]])',
            name[:64],
        )
    return name


def _too_many(name: FileName) -> str:
    if name == "mask":
        return "mask: it is there twice; send one"
    return f"image: the models here edit {MAX_EDIT_IMAGES} picture at a time; send one"


def _data(name: FileName, url: str) -> bytes:
    """The bytes of a data URL; RequestError for any other, as nothing is ever fetched."""
    param = "images" if name == "image" else name
    head, comma, text = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        raise RequestError(
            f"{param}: nothing is fetched from elsewhere; send the picture itself, as "
            "data:image/png;base64,...",
            param,
        )
    if not head.lower().endswith(";base64"):
        raise RequestError(f"{param}: write the data URL in base 64: data:...;base64,...", param)
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RequestError(f"{param}: what follows base64, is no base 64", param) from None
