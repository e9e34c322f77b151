"""The routes. They know an Engine and nothing of how it draws."""

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from unmask import pipeline
from unmask.editing import Edit
from unmask.errors import NotFoundError, RequestError
from unmask.server.encoding import encode, parameters, size_text
from unmask.server.engine import Engine
from unmask.server.errors import ErrorBody
from unmask.server.forms import (
    Form,
    form_reader,
    form_schema,
    make_edit,
    make_outpaint,
    make_variation,
)
from unmask.server.schemas import (
    STEPS,
    EditBody,
    EditSummary,
    GenerationBody,
    ImageAnswer,
    ImageBody,
    ImageData,
    ImagesAnswer,
    ModelCard,
    ModelList,
    OutpaintBody,
    Status,
    Timings,
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
    return read_body(await request.body(), GenerationBody)


def make_router(engine: Engine, settings: Settings) -> APIRouter:
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
        engine.model()
        return Status(status="ready")

    @router.get("/v1/models", tags=["models"])
    async def models() -> ModelList:
        """The models that can be asked for."""
        return ModelList(data=[_card(engine.model().info, created)])

    @router.get("/v1/models/{model_id:path}", tags=["models"])
    async def model(model_id: str) -> ModelCard:
        """One model."""
        info = engine.model().info
        if model_id != info.name:
            raise _no_such_model(model_id, info)
        return _card(info, created)

    async def answer(
        request: Request, body: ImageBody, make: Callable[[], Edit] | None = None
    ) -> ImagesAnswer:
        """Draw what the body asks for, over the picture that ``make`` reads, if any."""
        model = engine.model()
        if not _serves(model.info, body.model):
            raise _no_such_model(str(body.model), model.info)
        edit = await run_in_threadpool(make) if make is not None else None
        resolved = await run_in_threadpool(_resolve, body, model, edit)
        arrived = time.perf_counter()
        work = engine.submit(resolved)
        generated = await _unless_gone(request, work, settings.request_timeout_seconds)
        queued = time.perf_counter() - arrived - generated.seconds
        return await run_in_threadpool(_answer, body, model.info.name, generated, max(queued, 0))

    images = partial(
        router.post, tags=["images"], response_model=ImageAnswer, response_model_exclude_none=True
    )

    @images("/v1/images/generations", openapi_extra=BODY)
    async def generate(
        request: Request, body: Annotated[ImageBody, Depends(image_body)]
    ) -> ImagesAnswer:
        """Draw images from a prompt."""
        return await answer(request, body)

    @images("/v1/images/edits", openapi_extra=form_schema(EditBody, ["image", "mask"]))
    async def edit(
        request: Request,
        form: Annotated[Form[EditBody], Depends(form_reader(EditBody, ["image", "mask"]))],
    ) -> ImagesAnswer:
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
    ) -> ImagesAnswer:
        """Draw more of a picture beyond its sides."""
        return await answer(request, form.body, partial(make_outpaint, form, max_bytes))

    @images("/v1/images/variations", openapi_extra=form_schema(VariationBody))
    async def variation(
        request: Request, form: Annotated[Form[VariationBody], Depends(form_reader(VariationBody))]
    ) -> ImagesAnswer:
        """Draw a share of a picture's tokens anew, with a prompt or without."""
        return await answer(request, form.body, partial(make_variation, form, max_bytes))

    return router


def _serves(info: pipeline.ModelInfo, name: str | None) -> bool:
    return name is None or name == info.name or name.startswith(ALIASES)


def _no_such_model(name: str, info: pipeline.ModelInfo) -> NotFoundError:
    return NotFoundError(f"there is no model {name[:64]!r}: choose {info.name!r}", "model")


def _card(info: pipeline.ModelInfo, created: int) -> ModelCard:
    values = asdict(info)
    size = size_text((values.pop("width"), values.pop("height")))
    return ModelCard(id=values.pop("name"), created=created, size=size, **values)


def _resolve(body: ImageBody, model: pipeline.Pipeline, edit: Edit | None) -> pipeline.Request:
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


async def _unless_gone(
    request: Request, work: Coroutine[None, None, Result], seconds: float
) -> Result:
    """The result of the work, which is cancelled when the client hangs up or the time is over."""
    working = asyncio.create_task(work)
    # The body has been read, so the next message can only be the disconnect.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if gone.done():
            raise HTTPException(499, "the client has gone")  # nobody reads this but the log
        raise TimeoutError(f"not done within {seconds:g} s: ask for fewer images or steps")
    finally:
        working.cancel()
        gone.cancel()


def _answer(
    body: ImageBody, model: str, generated: pipeline.Generated, queued: float
) -> ImagesAnswer:
    request = generated.request
    text = parameters(request, model)
    started = time.perf_counter()
    files = [
        encode(image, body.image_format, body.image_quality, text) for image in generated.images
    ]
    data = [
        ImageData(b64_json=base64.b64encode(file).decode(), seed=request.seed, image_index=index)
        for index, file in enumerate(files)
    ]
    encoded = time.perf_counter() - started
    return ImageAnswer(
        created=int(time.time()),
        data=data,
        background="transparent" if request.edit and request.edit.keeps_alpha else "opaque",
        output_format=body.image_format,
        quality=body.used_quality,
        size=size_text(request.size),
        safety_identifier=body.safety_identifier,
        model=model,
        seed=request.seed,
        subjects=request.subjects,
        edit=EditSummary(**request.edit.summary()) if request.edit else None,
        **asdict(request.options),
        timings=Timings(queue=queued, generate=generated.seconds, encode=encoded),
    )
