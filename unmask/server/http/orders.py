"""From what a sender asks for to an order: one way, whether it is answered at once or later."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

from starlette.concurrency import run_in_threadpool

from unmask import pipeline
from unmask.editing import Edit
from unmask.errors import RequestError
from unmask.server.engine.face import EngineFace
from unmask.server.http.bodies import Upload
from unmask.server.http.edits import (
    Picture,
    Reading,
    check_scaled_size,
    make_edit,
    make_outpaint,
    make_variation,
)
from unmask.server.http.order import Order, model_name, resolve
from unmask.server.http.schemas import (
    STEPS,
    Body,
    EditBody,
    GenerationBody,
    ImageBody,
    OutpaintBody,
    VariationBody,
)
from unmask.settings import Settings


@dataclass(frozen=True)
class ImageKind(Generic[Body]):
    """A kind of request for images: what its body is, and how its pictures become what is drawn
    over; None: it has none."""

    name: str
    body: type[Body]
    read_picture: Callable[[Upload[Body], Reading], Picture] | None = None


GENERATION = ImageKind("images.generation", GenerationBody)
EDIT = ImageKind("images.edit", EditBody, make_edit)
OUTPAINT = ImageKind("images.outpaint", OutpaintBody, make_outpaint)
VARIATION = ImageKind("images.variation", VariationBody, make_variation)
IMAGE_KINDS: tuple[ImageKind[Any], ...] = (GENERATION, EDIT, OUTPAINT, VARIATION)


async def make_order(
    engine: EngineFace, settings: Settings, kind: ImageKind[Body], upload: Upload[Body], sender: str
) -> Order:
    """The order of the sender of that name, checked and weighed. RequestError, QueueFullError,
    UnavailableError."""
    body: ImageBody = upload.body
    model = await engine.open(model_name(body))
    info, scales = model.pipeline.info, settings.size_policy == "scale"
    size, picture = (info.width, info.height), None
    if kind.read_picture is not None:
        reading = Reading(settings.max_upload_bytes, size if scales else None)
        picture = await run_in_threadpool(kind.read_picture, upload, reading)
        size = picture.sent or picture.edit.size
    if body.width_height is not None:
        size = body.width_height
        if scales and not (picture is None and size in info.sizes):
            check_scaled_size(size)
            body = body.model_copy(update={"size": None})  # what is drawn has its own
    edit = None if picture is None else picture.edit
    resolved = await run_in_threadpool(_resolve, body, model.pipeline, edit)
    weighed = await engine.weigh(resolved, model)
    return Order(body, weighed, sender, settings.request_timeout_seconds, size)


def _resolve(body: ImageBody, model: pipeline.Pipeline, edit: Edit | None) -> pipeline.DrawRequest:
    steps = body.given_steps
    if body.used_quality:
        steps = min(STEPS[body.used_quality], model.info.max_steps)
    if edit is not None and edit.keeps_alpha:
        _check_transparency(body)
    if body.judged:
        model.info.check_judge()
    return resolve(body, model, n=body.n, image_index=body.image_index, edit=edit, steps=steps)


def _check_transparency(body: ImageBody) -> None:
    """RequestError for what a picture with transparency outside its mask cannot be."""
    if body.image_format == "jpeg":
        message = "jpeg holds no transparency, and the image has some outside the mask: choose png"
        raise RequestError(f"output_format: {message} or webp", "output_format")
    if body.background == "opaque":
        message = "the image has transparency outside the mask, which is kept: choose auto"
        raise RequestError(f"background: {message}", "background")
