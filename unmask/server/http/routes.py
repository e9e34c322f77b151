"""The routes. They know an Engine and nothing of how it draws."""

import time
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from unmask.editing import MAX_DRAWN_PIXELS, MAX_PIXELS
from unmask.encoding import size_text
from unmask.errors import NotFoundError, choices
from unmask.server.engine.face import EngineFace
from unmask.server.engine.status import ModelStatus
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
from unmask.server.http.answers import draw, stream, with_images
from unmask.server.http.bodies import Upload, field_bounds
from unmask.server.http.door import meter_of, sender_of
from unmask.server.http.edits import MAX_SCALED_PIXELS
from unmask.server.http.errors import ERRORS, ErrorBody
from unmask.server.http.forms import MAX_EDIT_IMAGES, JsonReader, UploadReader, inlined
from unmask.server.http.keeping import KEPT, Keeper, Wish
from unmask.server.http.orders import (
    EDIT,
    GENERATION,
    OUTPAINT,
    VARIATION,
    ImageKind,
    make_order,
)
from unmask.server.http.schemas import (
    Body,
    EditBody,
    GenerationBody,
    OutpaintBody,
    VariationBody,
)
from unmask.server.http.sse import STREAM_TYPE
from unmask.server.http.waiting import unless_gone
from unmask.server.http.watching import QueuedEvent, TraceEvent
from unmask.server.jobs.jobs import Jobs
from unmask.settings import Settings

GENERATIONS = JsonReader(GenerationBody)
EVENT: Any = QueuedEvent | TraceEvent | PreviewEvent | ImageEvent | ErrorBody
STREAM = {
    "description": "the images; or with stream: true server-sent events, the data of each of which "
    "is an object as told here",
    "content": {
        STREAM_TYPE: {"schema": inlined(TypeAdapter(EVENT).json_schema(mode="serialization"))}
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


def make_router(engine: EngineFace, settings: Settings, jobs: Jobs) -> APIRouter:
    """All routes, drawing with the engine; a request is given up after the timeout."""
    router = APIRouter(responses=ERRORS)
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
        cards = [card(status) for status in engine.models]
        return ModelList(data=[card.model_copy(update={"words": None}) for card in cards])

    @router.get("/v1/models/{model_id:path}", tags=["models"], response_model_exclude_none=True)
    async def model(model_id: str) -> ModelCard:
        """One model, and the words that it was taught."""
        statuses = {status.name: status for status in engine.models}
        if model_id not in statuses:
            known = choices(model_id[:64], statuses)
            raise NotFoundError(f"there is no model {model_id[:64]!r}: {known}", "model")
        return card(statuses[model_id])

    answer = partial(_answer, engine, settings, Keeper(engine, settings, jobs))
    images = partial(
        router.post,
        tags=["images"],
        response_model=ImageAnswer,
        response_model_exclude_none=True,
        responses={200: STREAM, **KEPT.responses},
    )

    @images("/v1/images/generations", openapi_extra={**GENERATIONS.schema, **KEPT.extra})
    async def generate(
        request: Request, body: Annotated[GenerationBody, Depends(GENERATIONS)]
    ) -> ImagesAnswer | Response:
        """Draw images from a prompt."""
        return await answer(request, GENERATION, Upload(body, {}))

    @images("/v1/images/edits", openapi_extra={**EDITS.schema, **KEPT.extra})
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
        return await answer(request, EDIT, upload)

    @images("/v1/images/outpaint", openapi_extra={**OUTPAINTS.schema, **KEPT.extra})
    async def outpaint(
        request: Request, upload: Annotated[Upload[OutpaintBody], Depends(OUTPAINTS)]
    ) -> ImagesAnswer | Response:
        """Draw more of a picture beyond its sides."""
        return await answer(request, OUTPAINT, upload)

    @images("/v1/images/variations", openapi_extra={**VARIATIONS.schema, **KEPT.extra})
    async def variation(
        request: Request, upload: Annotated[Upload[VariationBody], Depends(VARIATIONS)]
    ) -> ImagesAnswer | Response:
        """Draw a share of a picture's tokens anew, with a prompt or without."""
        return await answer(request, VARIATION, upload)

    return router


async def _answer(
    engine: EngineFace,
    settings: Settings,
    keeper: Keeper,
    request: Request,
    kind: ImageKind[Body],
    upload: Upload[Body],
) -> ImagesAnswer | Response:
    """Draw what an upload asks for."""
    wish = Wish.of(request, upload.body)
    if wish.is_kept:
        return await keeper.answer(request, kind, upload, wish)
    order = await make_order(engine, settings, kind, upload, sender_of(request).name)
    await meter_of(request).spend_tokens(order.weighed.cost.drawn_tokens)
    if order.body.stream:
        return await stream(engine, order)
    answer, files = await unless_gone(request, draw(engine, order))
    return await run_in_threadpool(with_images, answer, files)


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
    sizes = [size_text(size) for size in abilities.pop("sizes")]
    return card.model_copy(update={"size": sizes[0], "sizes": sizes, **abilities})
