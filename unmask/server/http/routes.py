"""The routes. They know an Engine and nothing of how it draws."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from unmask import pipeline
from unmask.editing import MAX_DRAWN_PIXELS, MAX_PIXELS, Edit
from unmask.encoding import size_text
from unmask.errors import NotFoundError, RequestError, choices
from unmask.server.engine.face import EngineFace
from unmask.server.engine.models import ModelStatus
from unmask.server.http.answer_schemas import (
    Bound,
    ImageAnswer,
    ImageEvent,
    ImagesAnswer,
    ModelCard,
    ModelList,
    PreviewEvent,
    Status,
)
from unmask.server.http.answers import Order, make_answer, stream, submit
from unmask.server.http.door import meter_of, sender_of
from unmask.server.http.edits import (
    MAX_SCALED_PIXELS,
    Picture,
    Reading,
    check_scaled_size,
    make_edit,
    make_outpaint,
    make_variation,
)
from unmask.server.http.errors import ErrorBody
from unmask.server.http.forms import MAX_EDIT_IMAGES, Upload, UploadReader, inlined
from unmask.server.http.schemas import (
    STEPS,
    EditBody,
    GenerationBody,
    ImageBody,
    OutpaintBody,
    VariationBody,
    field_bounds,
    read_body,
)
from unmask.settings import Settings

Result = TypeVar("Result")

# OpenAI's own names of image models, and what clients write for none: they send them when their
# user chose none.
ALIASES = ("dall-e-", "gpt-image-", "chatgpt-image-")
NO_MODEL = ("", "None", "null")

BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": GenerationBody.model_json_schema()}},
    }
}
EVENT: Any = PreviewEvent | ImageEvent | ErrorBody
STREAM = {
    "description": "the images; or with stream: true server-sent events, the data of each of which "
    "is an object as told here",
    "content": {
        "text/event-stream": {
            "schema": inlined(TypeAdapter(EVENT).json_schema(mode="serialization"))
        }
    },
}
EDITS = UploadReader(EditBody, ["image", "mask"])
OUTPAINTS, VARIATIONS = UploadReader(OutpaintBody), UploadReader(VariationBody)
# By the fields of all routes; the others have none of their own.
BOUNDS = {
    name: Bound(**bound)
    for kind in (GenerationBody, EditBody, OutpaintBody)
    for name, bound in field_bounds(kind).items()
}


async def image_body(request: Request) -> ImageBody:
    """The checked body. FastAPI's own parser lets NaN and lone surrogates pass."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send the header Content-Type: application/json")
    return await run_in_threadpool(read_body, await request.body(), GenerationBody)


def make_router(engine: EngineFace, settings: Settings) -> APIRouter:
    """All routes, drawing with the engine; a request is given up after the timeout."""
    router = APIRouter(responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}})
    created = int(time.time())

    def card(status: ModelStatus) -> ModelCard:
        return _card(status, created, settings)

    @router.get("/livez", tags=["probes"])
    async def live() -> Status:
        """The process answers."""
        return Status(status="live")

    @router.get("/readyz", tags=["probes"])
    async def ready() -> Status:
        """The model is loaded and its worker lives; else 503 with the reason."""
        engine.ready()
        return Status(status="ready")

    @router.get("/v1/models", tags=["models"], response_model_exclude_none=True)
    async def models() -> ModelList:
        """The models that can be asked for, and whether they are loaded."""
        return ModelList(data=[card(status) for status in engine.models])

    @router.get("/v1/models/{model_id:path}", tags=["models"], response_model_exclude_none=True)
    async def model(model_id: str) -> ModelCard:
        """One model."""
        statuses = {status.name: status for status in engine.models}
        if model_id not in statuses:
            known = choices(model_id[:64], statuses)
            raise NotFoundError(f"there is no model {model_id[:64]!r}: {known}", "model")
        return card(statuses[model_id])

    answer = partial(_answer, engine, settings)
    images = partial(
        router.post,
        tags=["images"],
        response_model=ImageAnswer,
        response_model_exclude_none=True,
        responses={200: STREAM},
    )

    @images("/v1/images/generations", openapi_extra=BODY)
    async def generate(
        request: Request, body: Annotated[ImageBody, Depends(image_body)]
    ) -> ImagesAnswer | Response:
        """Draw images from a prompt."""
        return await answer(request, body)

    @images("/v1/images/edits", openapi_extra=EDITS.schema)
    async def edit(
        request: Request,
        upload: Annotated[Upload[EditBody], Depends(EDITS)],
    ) -> ImagesAnswer | Response:
        """Draw over a picture.

        - With a mask it is inpainting: what the mask selects is drawn anew, unseen. A mask image
          with an alpha channel selects where alpha is 0, one without where it is white, unless
          mask_mode says otherwise. Without a mask image the picture's own pixels of alpha 0 are the
          mask, if it has any.
        - With a strength, that share of the tokens (under the mask, if there is one) is drawn anew.
        - With a share, or without any of these, the picture is revised towards the prompt.
        """
        return await answer(request, upload.body, partial(make_edit, upload))

    @images("/v1/images/outpaint", openapi_extra=OUTPAINTS.schema)
    async def outpaint(
        request: Request, upload: Annotated[Upload[OutpaintBody], Depends(OUTPAINTS)]
    ) -> ImagesAnswer | Response:
        """Draw more of a picture beyond its sides."""
        return await answer(request, upload.body, partial(make_outpaint, upload))

    @images("/v1/images/variations", openapi_extra=VARIATIONS.schema)
    async def variation(
        request: Request, upload: Annotated[Upload[VariationBody], Depends(VARIATIONS)]
    ) -> ImagesAnswer | Response:
        """Draw a share of a picture's tokens anew, with a prompt or without."""
        return await answer(request, upload.body, partial(make_variation, upload))

    return router


async def _answer(
    engine: EngineFace,
    settings: Settings,
    request: Request,
    body: ImageBody,
    read_picture: Callable[[Reading], Picture] | None = None,
) -> ImagesAnswer | Response:
    """Draw what the body asks for, over the picture that ``read_picture`` reads, if any."""
    model = await engine.open(_model_name(body))
    info, scales = model.pipeline.info, settings.size_policy == "scale"
    size, picture = (info.width, info.height), None
    if read_picture is not None:
        reading = Reading(settings.max_upload_bytes, size if scales else None)
        picture = await run_in_threadpool(read_picture, reading)
        size = picture.sent or picture.edit.size
    if scales and body.width_height is not None:
        size = body.width_height
        check_scaled_size(size)
        body = body.model_copy(update={"size": None})  # what is drawn has its own
    edit = None if picture is None else picture.edit
    resolved = await run_in_threadpool(_resolve, body, model.pipeline, edit)
    weighed = await engine.weigh(resolved, model)
    await meter_of(request).spend_tokens(weighed.cost.drawn_tokens)
    sender = sender_of(request).name
    order = Order(body, weighed, sender, settings.request_timeout_seconds, size)
    if body.stream:
        return await stream(engine, order)
    arrived = time.perf_counter()
    generated = await _unless_gone(request, submit(engine, order))
    queued = time.perf_counter() - arrived - generated.seconds
    return await run_in_threadpool(make_answer, order, generated, max(queued, 0))


def _model_name(body: ImageBody) -> str | None:
    """The served model that is asked for; None: the default one."""
    name = body.model or ""
    return None if name in NO_MODEL or name.startswith(ALIASES) else name


def _card(status: ModelStatus, created: int, settings: Settings) -> ModelCard:
    card = ModelCard(
        id=status.name,
        created=created,
        state=status.state.value,
        reason=status.reason or None,
        size_policy=settings.size_policy,
        max_edit_images=MAX_EDIT_IMAGES,
        max_edit_pixels=MAX_PIXELS,
        max_drawn_pixels=MAX_DRAWN_PIXELS,
        max_scaled_pixels=MAX_SCALED_PIXELS if settings.size_policy == "scale" else None,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        max_seconds=settings.request_timeout_seconds,
        bounds=BOUNDS,
    )
    if status.info is None:
        return card
    abilities = asdict(status.info)
    del abilities["name"]
    size = size_text((abilities.pop("width"), abilities.pop("height")))
    return card.model_copy(update={"size": size, **abilities})


def _resolve(body: ImageBody, model: pipeline.Pipeline, edit: Edit | None) -> pipeline.DrawRequest:
    steps = body.given_steps
    if body.used_quality:
        steps = min(STEPS[body.used_quality], model.info.max_steps)
    if edit is not None and edit.keeps_alpha:
        _check_transparency(body)
    return model.request(
        body.prompt,
        negative_prompt=body.negative_prompt,
        n=body.n,
        seed=body.seed,
        image_index=body.image_index,
        size=body.width_height,
        edit=edit,
        subjects=body.subjects,
        long_prompt=body.long_prompt,
        **{**body.sampling, "steps": steps},
    )


def _check_transparency(body: ImageBody) -> None:
    """RequestError for what a picture with transparency outside its mask cannot be."""
    if body.image_format == "jpeg":
        message = "jpeg holds no transparency, and the image has some outside the mask: choose png"
        raise RequestError(f"output_format: {message} or webp", "output_format")
    if body.background == "opaque":
        message = "the image has transparency outside the mask, which is kept: choose auto"
        raise RequestError(f"background: {message}", "background")


async def _unless_gone(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """The result of the work, which is cancelled when the client hangs up."""
    working = asyncio.create_task(work)
    # The body has been read, so the next message can only be the disconnect.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise HTTPException(499, "the client has gone")  # nobody reads this but the log
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait({working, gone})
