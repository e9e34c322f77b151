"""Multipart forms: a few files, and text fields that are checked like any JSON body."""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from unmask.editing import (
    MAX_PIXELS,
    Edit,
    has_transparency,
    image_to_image,
    inpaint,
    outpaint,
    revise,
    variation,
)
from unmask.errors import RequestError, choices
from unmask.images import ImageLimits, read_image
from unmask.server.http.schemas import (
    Body,
    EditBody,
    OutpaintBody,
    VariationBody,
    read_fields,
)

MAX_FILES = 8
MAX_FIELDS = 200
MAX_FIELD_BYTES = 1 << 16


@dataclass(frozen=True)
class Form(Generic[Body]):
    """A form that was read: its checked fields, and the bytes of its files by name."""

    body: Body
    files: dict[str, bytes]


def form_reader(
    kind: type[Body], files: Sequence[str] = ("image",)
) -> Callable[[Request], Coroutine[Any, Any, Form[Body]]]:
    """A dependency that reads the form of a request; of its files the first is required.

    RequestError names the field that is wrong; another content type is HTTP 415.
    """

    async def read(request: Request) -> Form[Body]:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "multipart/form-data":
            raise HTTPException(415, "send a form: Content-Type: multipart/form-data")
        limits = {"max_files": MAX_FILES, "max_fields": MAX_FIELDS}
        try:
            async with request.form(**limits, max_part_size=MAX_FIELD_BYTES) as form:
                return await _read(form, kind, files)
        except HTTPException as error:
            if error.status_code != 400:
                raise
            raise RequestError(f"the form cannot be read: {error.detail}") from None

    return read


def form_schema(kind: type[Body], files: Sequence[str] = ("image",)) -> dict[str, Any]:
    """What /docs shows of such a form."""
    schema = kind.model_json_schema()
    binary = {name: {"type": "string", "format": "binary"} for name in files}
    schema["properties"] = binary | schema["properties"]
    schema["required"] = [files[0], *schema.get("required", [])]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


async def _read(form: FormData, kind: type[Body], files: Sequence[str]) -> Form[Body]:
    images: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    lists: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in form.multi_items():
        name = key.removesuffix("[]")  # OpenAI's client sends a list as name[], even one of images
        if name in images or name in texts or (name in lists and key == name):
            raise RequestError(f"{name}: it is there twice; send one", name[:64])
        if isinstance(value, UploadFile):
            if name not in files:
                known = choices(name[:64], files)
                raise RequestError(f"{name[:64]!r} is no file of this form: {known}", name[:64])
            images[name] = await value.read()
        elif name in files:
            raise RequestError(f"{name}: send it as a file, that is, with a filename", name)
        elif key != name:
            lists[name].append(value)
        else:
            texts[name] = value
    if files[0] not in images:
        raise RequestError(f"{files[0]}: it is missing; send it as a file", files[0])
    texts |= {name: f"[{', '.join(values)}]" for name, values in lists.items()}
    return Form(await run_in_threadpool(read_fields, texts, kind), images)


def make_edit(form: Form[EditBody], max_bytes: int) -> Edit:
    """What /v1/images/edits asks for; see its documentation for what decides the kind."""
    body = form.body
    picture = partial(read_image, limits=ImageLimits(max_bytes, MAX_PIXELS))
    image = picture(form.files["image"], "image")
    mask = picture(form.files["mask"], "mask") if "mask" in form.files else None
    masked = mask is not None or has_transparency(image)
    if body.strength is not None and body.share is not None:
        raise RequestError("share: give it or a strength, not both", "share")
    feather = body.feather or 0
    if feather and not masked:
        raise RequestError("feather: there is no mask whose edge it could soften", "feather")
    if body.strength is not None:
        return image_to_image(image, body.strength, mask, feather)
    if body.share is not None:
        return revise(image, body.share, mask, feather)
    return inpaint(image, mask, feather) if masked else revise(image)


def make_outpaint(form: Form[OutpaintBody], max_bytes: int) -> Edit:
    """What /v1/images/outpaint asks for."""
    body = form.body
    image = read_image(form.files["image"], "image", ImageLimits(max_bytes, MAX_PIXELS))
    sides = (body.left, body.right, body.top, body.bottom, body.feather)
    return outpaint(image, *(side or 0 for side in sides))


def make_variation(form: Form[VariationBody], max_bytes: int) -> Edit:
    """What /v1/images/variations asks for."""
    image = read_image(form.files["image"], "image", ImageLimits(max_bytes, MAX_PIXELS))
    return variation(image) if form.body.strength is None else variation(image, form.body.strength)
