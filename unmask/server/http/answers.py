"""From a request that was checked to its answer: one body, or events in OpenAI's shape."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from unmask.encoding import encode, parameters, size_text
from unmask.pipeline import DrawRequest, Generated, Pipeline
from unmask.server.engine.engine import Engine
from unmask.server.engine.tickets import Event, Preview, Priority
from unmask.server.http.errors import error_body
from unmask.server.http.schemas import (
    EditSummary,
    ImageAnswer,
    ImageBody,
    ImageData,
    ImagesAnswer,
    Timings,
    Usage,
)

KEEPALIVE_SECONDS = 15.0


@dataclass(frozen=True)
class Order:
    """A resolved request, the body it came in, and who asks."""

    body: ImageBody
    model: Pipeline
    request: DrawRequest
    key: str
    timeout: float

    @property
    def background(self) -> Literal["opaque", "transparent"]:
        """OpenAI's word for what lies behind."""
        edit = self.request.edit
        return "transparent" if edit is not None and edit.keeps_alpha else "opaque"

    @property
    def usage(self) -> Usage:
        """Tokens of the prompt, and of the images."""
        read = self.model.text_tokens(self.request.prompt)
        rows, columns = self.model.info.grid
        drawn = rows * columns * self.request.n
        return Usage(
            input_tokens=read,
            input_tokens_details={"text_tokens": read, "image_tokens": 0},
            output_tokens=drawn,
            total_tokens=read + drawn,
        )

    def file(self, image: Image.Image, text: str = "") -> str:
        """An image as the body asks for it, in base 64."""
        data = encode(image, self.body.image_format, self.body.image_quality, text)
        return base64.b64encode(data).decode()


async def submit(
    engine: Engine, order: Order, on_event: Callable[[Event], None] | None = None
) -> Generated:
    """Hand an order to the engine."""
    return await engine.submit(
        order.request,
        order.model,
        key=order.key,
        priority=Priority.LOW if order.body.priority == "low" else Priority.NORMAL,
        timeout=order.timeout,
        previews=order.body.partial_images or 0,
        on_event=on_event,
    )


def make_answer(order: Order, generated: Generated, queued: float) -> ImagesAnswer:
    """The body of the answer."""
    body, request = order.body, order.request
    text = parameters(request, order.model.info.name)
    started = time.perf_counter()
    files = [order.file(image, text) for image in generated.images]
    data = [
        ImageData(b64_json=file, seed=request.seed, image_index=index)
        for index, file in enumerate(files)
    ]
    encoded = time.perf_counter() - started
    return ImageAnswer(
        created=int(time.time()),
        data=data,
        background=order.background,
        output_format=body.image_format,
        quality=body.used_quality,
        size=size_text(request.size),
        safety_identifier=body.safety_identifier,
        usage=order.usage,
        model=order.model.info.name,
        seed=request.seed,
        subjects=request.subjects,
        edit=EditSummary(**request.edit.summary()) if request.edit else None,
        **request.options.flat(),
        timings=Timings(queue=queued, generate=generated.seconds, encode=encoded),
    )


async def stream(engine: Engine, order: Order) -> StreamingResponse:
    """The events of an order, previews first; whatever the engine refuses at once is raised here,
    while there can still be an answer of another status."""
    heard: asyncio.Queue[Event] = asyncio.Queue()
    work = asyncio.create_task(submit(engine, order, heard.put_nowait))
    first = asyncio.create_task(heard.get())  # an engine tells of 0 steps when it takes a request
    try:
        await asyncio.wait({work, first}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    except BaseException:
        work.cancel()
        raise
    finally:
        first.cancel()
    return StreamingResponse(
        _events(order, work, heard),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


async def _events(
    order: Order, work: "asyncio.Task[Generated]", heard: "asyncio.Queue[Event]"
) -> AsyncIterator[bytes]:
    kind = "image_generation" if order.request.edit is None else "image_edit"
    try:
        while not (work.done() and heard.empty()):
            waiting = asyncio.create_task(heard.get())
            await asyncio.wait(
                {waiting, work}, timeout=KEEPALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if waiting.done() and isinstance(event := waiting.result(), Preview):
                yield await run_in_threadpool(_preview, kind, order, event)
            elif not waiting.done():
                waiting.cancel()
                if not work.done():
                    yield KEEPALIVE_COMMENT
        for index, image in enumerate(work.result().images):
            yield await run_in_threadpool(_completed, kind, order, index, image)
    except Exception as error:
        yield _frame("error", json.loads(bytes(error_body(error).body)))
    finally:
        work.cancel()


def _preview(kind: str, order: Order, preview: Preview) -> bytes:
    name = f"{kind}.partial_image"
    return _frame(
        name,
        {
            **_common(name, order, preview.image_index),
            "b64_json": order.file(preview.image),
            "partial_image_index": preview.number,
        },
    )


def _completed(kind: str, order: Order, index: int, image: Image.Image) -> bytes:
    name = f"{kind}.completed"
    text = parameters(order.request, order.model.info.name)
    return _frame(
        name,
        {
            **_common(name, order, index),
            "b64_json": order.file(image, text),
            "usage": order.usage.model_dump(),
            "model": order.model.info.name,
            **order.request.options.flat(),
        },
    )


def _common(name: str, order: Order, index: int) -> dict[str, Any]:
    return {
        "type": name,
        "created_at": int(time.time()),
        "size": size_text(order.request.size),
        "quality": order.body.used_quality or "auto",
        "background": order.background,
        "output_format": order.body.image_format,
        "seed": order.request.seed,
        "image_index": index,
    }


def _frame(name: str, data: dict[str, Any]) -> bytes:
    return format_sse_event(event=name, data_str=json.dumps(data))
