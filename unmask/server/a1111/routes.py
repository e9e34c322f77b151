"""The routes under ``/sdapi/v1``: those that webuiapi and Open WebUI call."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from unmask.encoding import base_64, parameters
from unmask.errors import NotFoundError, RequestError, choices
from unmask.pipeline import ModelInfo
from unmask.server.a1111.desks import Desks, Going, Part
from unmask.server.a1111.orders import MODEL, Translated, checkpoint, translate
from unmask.server.a1111.schemas import (
    Images,
    ImageToImage,
    Model,
    Nothing,
    Options,
    Progress,
    Sampler,
    Scheduler,
    Scripts,
    State,
    TextToImage,
)
from unmask.server.engine.face import EngineFace
from unmask.server.http.door import meter_of, sender_of
from unmask.server.http.errors import ERRORS
from unmask.server.http.forms import JsonReader
from unmask.server.http.waiting import unless_gone
from unmask.settings import Settings

FORMAT = "png"
TEXT_TO_IMAGE, IMAGE_TO_IMAGE = JsonReader(TextToImage), JsonReader(ImageToImage)
OPTIONS = JsonReader(Options)


def make_a1111_router(engine: EngineFace, settings: Settings) -> APIRouter:
    """The routes, drawing with the engine."""
    router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"], responses=ERRORS)
    desks = Desks()
    _add_drawing(router, engine, settings, desks)
    _add_choosing(router, engine, desks)
    return router


def _current_model(engine: EngineFace, desks: Desks, request: Request) -> str:
    return desks.model(sender_of(request).name) or engine.models[0].name


def _add_drawing(router: APIRouter, engine: EngineFace, settings: Settings, desks: Desks) -> None:

    async def draw(request: Request, job: str, body: TextToImage) -> Images:
        sender, model = sender_of(request).name, _current_model(engine, desks, request)
        translated = await translate(engine, settings, body, model, sender)
        await meter_of(request).spend_tokens(translated.order.weighed.cost.drawn_tokens)
        going = Going(job, translated.order, [Part(weighed) for weighed in translated.parts()])
        desks.add(sender, going)
        try:
            drawn = await unless_gone(request, going.draw(engine))
        finally:
            desks.remove(sender, going)
        return await run_in_threadpool(_images, translated, going, drawn)

    @router.post("/txt2img", openapi_extra=TEXT_TO_IMAGE.schema)
    async def text_to_image(
        request: Request, body: Annotated[TextToImage, Depends(TEXT_TO_IMAGE)]
    ) -> Images:
        """Draw images from a prompt."""
        return await draw(request, "txt2img", body)

    @router.post("/img2img", openapi_extra=IMAGE_TO_IMAGE.schema)
    async def image_to_image(
        request: Request, body: Annotated[ImageToImage, Depends(IMAGE_TO_IMAGE)]
    ) -> Images:
        """Draw a share of a picture anew, or of what is white in its mask."""
        return await draw(request, "img2img", body)

    @router.get("/progress")
    async def progress(request: Request, skip_current_image: str = "false") -> Progress:
        """How far the sender's oldest request is, with a preview."""
        all_going = desks.going(sender_of(request).name)
        if not all_going:
            return Progress()
        shown = skip_current_image.lower() not in ("true", "1")
        return await run_in_threadpool(_progress, all_going, shown)

    @router.post("/interrupt")
    async def interrupt(request: Request) -> Nothing:
        """End the sender's requests; they are answered with what there is of their images."""
        desks.interrupt(sender_of(request).name)
        return Nothing()

    @router.post("/skip")
    async def skip(request: Request) -> Nothing:
        """End the first unfinished image of the sender's oldest request."""
        desks.skip(sender_of(request).name)
        return Nothing()


def _add_choosing(router: APIRouter, engine: EngineFace, desks: Desks) -> None:
    async def info(request: Request) -> ModelInfo:
        return (await engine.open(_current_model(engine, desks, request))).pipeline.info

    @router.get("/options")
    async def options(request: Request) -> Options:
        """What can be chosen."""
        return Options(
            sd_model_checkpoint=_current_model(engine, desks, request), samples_format=FORMAT
        )

    @router.post("/options", openapi_extra=OPTIONS.schema)
    async def choose(request: Request, body: Annotated[Options, Depends(OPTIONS)]) -> Nothing:
        """Choose the model of the sender's further requests; nobody else's change."""
        if body.model_extra:
            name = next(iter(body.model_extra))[:64]
            known = choices(name, Options.model_fields)
            raise RequestError(f"option {name!r} cannot be set here: {known}", name)
        if body.samples_format not in (None, FORMAT):
            message = f"samples_format: files are {FORMAT}, and nothing else, under this path"
            raise RequestError(message, "samples_format")
        if name := checkpoint(body.sd_model_checkpoint):
            names = [status.name for status in engine.models]
            if name not in names:
                known = choices(name[:64], names)
                raise NotFoundError(f"there is no model {name[:64]!r}: {known}", MODEL)
            desks.choose(sender_of(request).name, name)
        return Nothing()

    @router.get("/sd-models")
    async def models() -> list[Model]:
        """The models that can be chosen."""
        names = [status.name for status in engine.models]
        return [Model(title=name, model_name=name, filename=name) for name in names]

    @router.post("/refresh-checkpoints")
    async def refresh() -> Nothing:
        """Nothing: the operator says which models there are."""
        return Nothing()

    @router.get("/samplers")
    async def samplers(request: Request) -> list[Sampler]:
        """The schedulers of the sender's model."""
        return [Sampler(name=name) for name in (await info(request)).schedulers]

    @router.get("/schedulers")
    async def schedulers(request: Request) -> list[Scheduler]:
        """The mask schedules of the sender's model."""
        names = (await info(request)).mask_schedules
        return [Scheduler(name=name, label=name) for name in names]

    @router.get("/scripts")
    async def scripts() -> Scripts:
        """None."""
        return Scripts()


def _images(translated: Translated, going: Going, drawn: list[Part]) -> Images:
    order, notes = translated.order, list(translated.notes)
    files = []
    for position, part in enumerate(drawn):
        picture = part.image or part.preview
        assert picture is not None, "what was drawn has a picture"
        if part.image is None:
            total = part.weighed.cost.all_steps
            notes.append(f"image {position} is a preview: {part.done} of {total} steps were done")
        text = parameters(part.weighed.request, order.model.name)
        files.append(base_64(order.file(picture, text)))
    if missing := len(going.parts) - len(drawn):
        notes.append(f"{missing} images were given up before there was anything to see")
    info = translated.info([part.weighed for part in drawn], notes)
    return Images(images=files, parameters=translated.body.echo, info=info)


def _progress(all_going: list[Going], with_image: bool) -> Progress:
    going = all_going[0]
    done, steps, seconds = going.done, going.steps, time.time() - going.began
    preview = going.preview if with_image else None
    state = State(
        skipped=going.skipped,
        interrupted=going.interrupted,
        stopping_generation=going.interrupted,
        job=going.job,
        job_count=len(all_going),
        job_timestamp=time.strftime("%Y%m%d%H%M%S", time.localtime(going.began)),
        job_no=sum(not part.open for part in going.parts),
        sampling_step=done,
        sampling_steps=steps,
    )
    return Progress(
        progress=done / steps,
        eta_relative=seconds * (steps - done) / done if done else 0.0,
        state=state,
        current_image=base_64(going.order.file(preview)) if preview else None,
    )
