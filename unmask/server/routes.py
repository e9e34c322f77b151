"""The routes. They know an Engine and nothing of how it draws."""

import asyncio
import base64
import time
from collections.abc import Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from unmask.errors import NotFoundError
from unmask.server.encoding import encode, parameters, size_text
from unmask.server.engine import Engine
from unmask.server.errors import ErrorBody
from unmask.server.schemas import (
    STEPS,
    ImageAnswer,
    ImageBody,
    ImageData,
    ModelCard,
    ModelList,
    Status,
    Timings,
    read_body,
)

if TYPE_CHECKING:
    from unmask import pipeline

Result = TypeVar("Result")

# OpenAI's own names of image models: clients send them when their user chose none.
ALIASES = ("dall-e-", "gpt-image-", "chatgpt-image-")

BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ImageBody.model_json_schema()}},
    }
}


async def image_body(request: Request) -> ImageBody:
    """The checked body. FastAPI's own parser lets NaN and lone surrogates pass."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send the header Content-Type: application/json")
    return read_body(await request.body())


def make_router(engine: Engine, timeout_seconds: float) -> APIRouter:
    """All routes, drawing with the engine; a request is given up after the timeout."""
    router = APIRouter(responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}})
    created = int(time.time())

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

    @router.post(
        "/v1/images/generations",
        tags=["images"],
        openapi_extra=BODY,
        response_model_exclude_none=True,
    )
    async def generate(
        request: Request, body: Annotated[ImageBody, Depends(image_body)]
    ) -> ImageAnswer:
        """Draw images from a prompt."""
        model = engine.model()
        if not _serves(model.info, body.model):
            raise _no_such_model(str(body.model), model.info)
        resolved = _resolve(body, model)
        arrived = time.perf_counter()
        work = engine.submit(resolved)
        generated = await _unless_gone(request, work, timeout_seconds)
        queued = time.perf_counter() - arrived - generated.seconds
        return await run_in_threadpool(_answer, body, model.info.name, generated, max(queued, 0))

    return router


def _serves(info: "pipeline.ModelInfo", name: str | None) -> bool:
    return name is None or name == info.name or name.startswith(ALIASES)


def _no_such_model(name: str, info: "pipeline.ModelInfo") -> NotFoundError:
    return NotFoundError(f"there is no model {name[:64]!r}: choose {info.name!r}", "model")


def _card(info: "pipeline.ModelInfo", created: int) -> ModelCard:
    values = asdict(info)
    size = size_text((values.pop("width"), values.pop("height")))
    return ModelCard(id=values.pop("name"), created=created, size=size, **values)


def _resolve(body: ImageBody, model: "pipeline.Pipeline") -> "pipeline.Request":
    steps = body.given_steps
    if body.used_quality:
        steps = min(STEPS[body.used_quality], model.info.max_steps)
    return model.request(
        body.prompt,
        negative_prompt=body.negative_prompt,
        n=1 if body.n is None else body.n,
        seed=body.seed,
        size=body.width_height,
        steps=steps,
        scheduler=body.scheduler,
        mask_schedule=body.mask_schedule,
        temperature=body.temperature,
        choice_temperature=body.choice_temperature,
        guidance_scale=body.guidance_scale,
        guidance=body.guidance,
        guidance_interval=body.guidance_interval,
    )


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
    body: ImageBody, model: str, generated: "pipeline.Generated", queued: float
) -> ImageAnswer:
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
        output_format=body.image_format,
        quality=body.used_quality,
        size=size_text(request.size),
        safety_identifier=body.safety_identifier,
        model=model,
        seed=request.seed,
        steps=request.steps,
        scheduler=request.scheduler,
        mask_schedule=request.mask_schedule,
        temperature=request.temperature,
        choice_temperature=request.choice_temperature,
        guidance_scale=request.guidance_scale,
        guidance=request.guidance,
        guidance_interval=request.guidance_interval,
        timings=Timings(queue=queued, generate=generated.seconds, encode=encoded),
    )
