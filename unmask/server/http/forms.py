"""Bodies that hold files: forms with files, or JSON with data URLs. Their other fields are
checked alike."""

import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Generic

from fastapi import Request
from pydantic import Field, create_model
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from unmask.errors import RequestError, choices
from unmask.server.http.bodies import (
    MAX_PINS,
    PINS,
    AnyBody,
    FileName,
    ImageReference,
    Model,
    Reference,
    Upload,
    pin_name,
    read_body,
    read_fields,
)

MAX_FILES = 17  # OpenAI's client sends up to 16 images and a mask, to be refused in our words
MAX_FIELDS = 200
MAX_FIELD_BYTES = 1 << 16
MAX_EDIT_IMAGES = 1  # no family here reads several
FRAME = r"at\[([0-9]{1,4})\]"  # of a clip, at which a file of a form stands

FORM, JSON = "multipart/form-data", "application/json"
AS_FILE = "send it as a file"
WITH_NAME = f"{AS_FILE}, that is, with a filename"


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


class UploadReader(Generic[AnyBody]):
    """A dependency that reads uploads of one route.

    A body in JSON refers to its files, as a form may where its body has fields for that: what is
    a data URL becomes a file, and any other reference stays in the body. Those that stand at frames
    of a clip are listed in JSON, and named ``at[FRAME]`` in a form.
    """

    def __init__(
        self,
        kind: type[AnyBody],
        files: Sequence[FileName] = ("image",),
        needed: FileName | None = "image",
    ) -> None:
        """``files`` may come with a body of this kind, and one of them must, if it is needed."""
        self.kind, self.files, self.needed = kind, files, needed
        references: dict[str, Any] = {}
        if "image" in files:
            length = Field(min_length=1, max_length=MAX_EDIT_IMAGES)
            references["images"] = (list[ImageReference], length)
        if "mask" in files and "mask" not in kind.model_fields:
            references["mask"] = (ImageReference | None, None)
        self._json_kind = kind
        if references:
            self._json_kind = create_model(f"{kind.__name__}Json", __base__=kind, **references)

    async def __call__(self, request: Request) -> Upload[AnyBody]:
        """RequestError names the field that is wrong; another content type is HTTP 415."""
        media_type = _media_type(request)
        if media_type == JSON:
            raw = await request.body()
            body = await run_in_threadpool(read_body, raw, self._json_kind)
            return await run_in_threadpool(self._upload, body, {})
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
        form = inlined(self.kind.model_json_schema())
        binary = {name: {"type": "string", "format": "binary"} for name in self.files}
        form["properties"] = form["properties"] | binary
        whole = inlined(self._json_kind.model_json_schema())
        if self.needed is not None:
            form["required"] = [self.needed, *form.get("required", [])]
        if self.needed in self.kind.model_fields:
            whole["required"] = [*whole.get("required", []), self.needed]
        contents = {FORM: form, JSON: whole}
        content = {media_type: {"schema": schema} for media_type, schema in contents.items()}
        return {"requestBody": {"required": True, "content": content}}

    def _upload(self, body: AnyBody, files: dict[str, bytes]) -> Upload[AnyBody]:
        """A body and its files, among them those that the body has as data URLs."""
        taken: dict[str, None] = {}
        for name in self.files:
            field = "images" if name == "image" else name
            given = getattr(body, field, None)
            reference: Reference | None = given[0] if isinstance(given, list) else given
            if reference is not None and name in files:
                raise RequestError(_too_many(name), name)
            if reference is not None and reference.url is not None:
                files[name] = _data(field, reference.url)
                taken[field] = None
        for pin in getattr(body, PINS, None) or ():
            if pin_name(pin.frame) in files:
                raise RequestError(f"at: {_twice(pin.frame)}", PINS)
            files[pin_name(pin.frame)] = _data(PINS, pin.image_url)
            taken[PINS] = None
        # Who waits for its turn need not hold its files twice.
        body = body.model_copy(update=taken)
        if self.needed and self.needed not in files and getattr(body, self.needed, None) is None:
            text = 'send it as a file, or as {"id": ...}' if self.needed == "video" else AS_FILE
            raise RequestError(f"{self.needed}: it is missing; {text}", self.needed)
        upload = Upload(body, files)
        if len(upload.pins) > MAX_PINS:
            raise RequestError(
                f"at: {len(upload.pins)} files; send {MAX_PINS} at most. A clip stands for all of "
                "its frames",
                PINS,
            )
        return upload

    async def _read_form(self, form: FormData) -> Upload[AnyBody]:
        files: dict[str, bytes] = {}
        parts: defaultdict[str, list[str]] = defaultdict(list)
        spellings: dict[str, str] = {}
        for key, value in form.multi_items():
            if frame := self._pinned(key):
                await self._read_pin(files, int(frame[1]), value)
                continue
            name, member = self._field_name(key)
            if spellings.setdefault(name, key) != key:
                raise RequestError(f"{name}: it is there twice; send one", name[:64])
            if isinstance(value, UploadFile):
                known = next((file for file in self.files if file == name), None)
                if known is None:
                    raise RequestError(self._no_such_file(name), name[:64])
                if known in files:
                    raise RequestError(_too_many(known), known)
                files[known] = await value.read()
            elif name in self.files and name not in self.kind.model_fields:
                raise RequestError(f"{name}: {WITH_NAME}", name)
            else:
                parts[name].append(json.dumps({member: value}) if member else value)
        body = await run_in_threadpool(read_fields, parts, self.kind)
        return await run_in_threadpool(self._upload, body, files)

    def _pinned(self, key: str) -> re.Match[str] | None:
        """The frame at which a part stands, if it is such a file."""
        return re.fullmatch(FRAME, key) if PINS in self.kind.model_fields else None

    async def _read_pin(self, files: dict[str, bytes], frame: int, value: UploadFile | str) -> None:
        if not isinstance(value, UploadFile):
            raise RequestError(f"at[{frame}]: {WITH_NAME}", PINS)
        if pin_name(frame) in files:
            raise RequestError(f"at: {_twice(frame)}", PINS)
        files[pin_name(frame)] = await value.read()

    def _field_name(self, key: str) -> tuple[str, str]:
        """The field that a part belongs to, and the member of it, if it is a file's reference:
        OpenAI's client sends a list as name[], even one of files, and an object's members as
        name[member]."""
        name, bracket, inner = key.partition("[")
        if name in self.files and name in self.kind.model_fields and inner.endswith("]"):
            return name, inner[:-1]
        if bracket and inner != "]":
            # A list of lists as name[][] has lost where the inner ones ended.
            raise RequestError(
                f"{name[:64]}: write lists of lists and objects as JSON, in one part: "
                'json.dumps([["red", "apple"], ["blue", "book"]])',
                name[:64],
            )
        return name, ""

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


def _twice(frame: int) -> str:
    return f"frame {frame} is given twice; once is enough"


def _too_many(name: FileName) -> str:
    if name == "image":
        return f"image: the models here edit {MAX_EDIT_IMAGES} picture at a time; send one"
    return f"{name}: it is there twice; send one"


def _data(param: str, url: str) -> bytes:
    """The bytes of a data URL; RequestError for any other, as nothing is ever fetched."""
    head, comma, text = url.partition(",")
    if not head.lower().startswith("data:") or not comma:
        kind = "video/mp4" if param == "video" else "image/png"
        raise RequestError(
            f"{param}: nothing is fetched from elsewhere; send the file itself, as "
            f"data:{kind};base64,...",
            param,
        )
    if not head.lower().endswith(";base64"):
        raise RequestError(f"{param}: write the data URL in base 64: data:...;base64,...", param)
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RequestError(f"{param}: what follows base64, is no base 64", param) from None
