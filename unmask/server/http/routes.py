"""The routes. They know an Engine and nothing of how it draws."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from unmask import pipeline
from unmask.editing import Edit
from unmask.encoding import size_text
from unmask.errors import NotFoundError, RequestError, choices
from unmask.server.engine.face import EngineFace
from unmask.server.engine.models import ModelStatus
from unmask.server.http.answers import Order, make_answer, stream, submit
from unmask.server.http.door import meter_of, sender_of
from unmask.server.http.errors import ErrorBody
from unmask.server.http.forms import (
    Form,
    form_reader,
    form_schema,
    make_edit,
    make_outpaint,
    make_variation,
)
from unmask.server.http.schemas import (
    STEPS,
    EditBody,
    GenerationBody,
    ImageAnswer,
    ImageBody,
    ImagesAnswer,
    ModelCard,
    ModelList,
    OutpaintBody,
    Status,
    VariationBody,
    read_body,
)
from unmask.settings import Settings

Result = TypeVar("Result")

# OpenAI's own names of image models: clients send them when their user chose none.
ALIASES = ("dall-e-", "gpt-image-", "chatgpt-image-")

BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": GenerationBody.model_json_schema()}},
    }
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
    created, max_bytes = int(time.time()), settings.max_upload_bytes

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
        return ModelList(data=[_card(status, created) for status in engine.models])

    @router.get("/v1/models/{model_id:path}", tags=["models"], response_model_exclude_none=True)
    async def model(model_id: str) -> ModelCard:
        """One model."""
        statuses = {status.name: status for status in engine.models}
        if model_id not in statuses:
            known = choices(model_id[:64], statuses)
            raise NotFoundError(f"there is no model {model_id[:64]!r}: {known}", "model")
        return _card(statuses[model_id], created)

    async def answer(
        request: Request, body: ImageBody, read_edit: Callable[[], Edit] | None = None
    ) -> ImagesAnswer | Response:
        """Draw what the body asks for, over the picture that ``read_edit`` reads, if any."""
        name = None if (body.model or "").startswith(ALIASES) else body.model
        model = await engine.open(name)
        edit = await run_in_threadpool(read_edit) if read_edit is not None else None
        resolved = await run_in_threadpool(_resolve, body, model.pipeline, edit)
        weighed = await engine.weigh(resolved, model)
        await meter_of(request).spend_tokens(weighed.cost.drawn_tokens)
        order = Order(body, weighed, sender_of(request).name, settings.request_timeout_seconds)
        if body.stream:
            return await stream(engine, order)
        arrived = time.perf_counter()
        generated = await _unless_gone(request, submit(engine, order))
        queued = time.perf_counter() - arrived - generated.seconds
        return await run_in_threadpool(make_answer, order, generated, max(queued, 0))

    images = partial(
        router.post, tags=["images"], response_model=ImageAnswer, response_model_exclude_none=True
    )

    @images("/v1/images/generations", openapi_extra=BODY)
    async def generate(
        request: Request, body: Annotated[ImageBody, Depends(image_body)]
    ) -> ImagesAnswer | Response:
        """Draw images from a prompt."""
        return await answer(request, body)

    @images("/v1/images/edits", openapi_extra=form_schema(EditBody, ["image", "mask"]))
    async def edit(
        request: Request,
        form: Annotated[Form[EditBody], Depends(form_reader(EditBody, ["image", "mask"]))],
    ) -> ImagesAnswer | Response:
        """Draw over a picture.

        - With a mask it is inpainting: what the mask selects is drawn anew, unseen. A mask image
          with an alpha channel selects where alpha is 0, one without where it is white. Without a
          mask image the picture's own pixels of alpha 0 are the mask, if it has any.
        - With a strength, that share of the tokens (under the mask, if there is one) is drawn anew.
        - With a share, or without any of these, the picture is revised towards the prompt.
        """
        return await answer(request, form.body, partial(make_edit, form, max_bytes))

    @images("/v1/images/outpaint", openapi_extra=form_schema(OutpaintBody))
    async def outpaint(
        request: Request, form: Annotated[Form[OutpaintBody], Depends(form_reader(OutpaintBody))]
    ) -> ImagesAnswer | Response:
        """Draw more of a picture beyond its sides."""
        return await answer(request, form.body, partial(make_outpaint, form, max_bytes))

    @images("/v1/images/variations", openapi_extra=form_schema(VariationBody))
    async def variation(
        request: Request, form: Annotated[Form[VariationBody], Depends(form_reader(VariationBody))]
    ) -> ImagesAnswer | Response:
        """Draw a share of a picture's tokens anew, with a prompt or without."""
        return await answer(request, form.body, partial(make_variation, form, max_bytes))

    return router


def _card(status: ModelStatus, created: int) -> ModelCard:
    card = ModelCard(
        id=status.name, created=created, state=status.state.value, reason=status.reason or None
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
        size=body.width_height,
        edit=edit,
        subjects=body.subjects,
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
