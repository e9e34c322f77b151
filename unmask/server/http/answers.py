"""From a request that was checked to its answer: one body, or events in OpenAI's shape."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from unmask.encoding import base_64, parameters, size_text
from unmask.pipeline import Generated
from unmask.server.engine.face import EngineFace
from unmask.server.engine.tickets import Event, Preview, Priority, Progress, Watched
from unmask.server.http.answer_schemas import (
    CompletedEvent,
    EditSummary,
    ImageAnswer,
    ImageData,
    ImageEvent,
    ImagesAnswer,
    PreviewEvent,
    Timings,
)
from unmask.server.http.order import DrawingOrder, Order
from unmask.server.http.sse import (
    KEEPALIVE_SECONDS,
    STREAM_HEADERS,
    STREAM_TYPE,
    error_frame,
    frame,
)
from unmask.server.http.watching import QueuedEvent, TraceEvent, check_traced, queued, traced
from unmask.server.jobs.job import Job


async def submit(
    engine: EngineFace,
    order: DrawingOrder,
    on_event: Callable[[Event], None] | None = None,
    *,
    previews: int = 0,
    watched: bool = False,
) -> Generated:
    """Hand an order to the engine."""
    return await engine.submit(
        order.weighed,
        key=order.key,
        priority=Priority.LOW if order.body.priority == "low" else Priority.NORMAL,
        timeout=order.timeout,
        previews=previews,
        watched=watched,
        on_event=on_event,
    )


async def draw(
    engine: EngineFace, order: Order, on_event: Callable[[Event], None] | None = None
) -> tuple[ImagesAnswer, list[bytes]]:
    """Have an order drawn; the body of the answer, without its images, and the files that these
    are."""
    arrived = time.perf_counter()
    generated = await submit(engine, order, on_event)
    queued = time.perf_counter() - arrived - generated.seconds
    return await run_in_threadpool(_make_answer, order, generated, max(queued, 0))


def _make_answer(
    order: Order, generated: Generated, queued: float
) -> tuple[ImagesAnswer, list[bytes]]:
    body, request = order.body, order.request
    text = parameters(request, order.model.name)
    started = time.perf_counter()
    verdicts = order.verdicts(generated.images)
    judged = time.perf_counter()
    files = [order.file(image, text) for image in generated.images]
    data = [
        ImageData(seed=request.seed, image_index=index, verdict=verdict)
        for index, verdict in zip(request.image_indices, verdicts, strict=True)
    ]
    timings = Timings(
        queue=queued,
        generate=generated.seconds,
        judge=judged - started if body.judged else None,
        encode=time.perf_counter() - judged,
    )
    answer = ImageAnswer(
        created=int(time.time()),
        data=data,
        background=order.background,
        output_format=body.image_format,
        quality=body.used_quality,
        size=size_text(order.size),
        safety_identifier=body.safety_identifier,
        usage=order.usage(),
        model=order.model.name,
        seed=request.seed,
        subjects=request.subjects,
        warnings=order.warnings,
        long_prompt=request.long_prompt or None,
        edit=EditSummary(**request.edit.summary()) if request.edit else None,
        **request.options.flat(),
        size_policy=order.size_policy,
        drawn_size=order.drawn_size,
        timings=timings,
    )
    return answer, files


def with_images(answer: ImagesAnswer, files: Iterable[bytes]) -> ImagesAnswer:
    """The answer with its images in it."""
    pairs = zip(answer.data, map(base_64, files), strict=True)
    data = [image.model_copy(update={"b64_json": text}) for image, text in pairs]
    return answer.model_copy(update={"data": data})


def with_urls(answer: ImagesAnswer, urls: Iterable[str]) -> ImagesAnswer:
    """The answer with the places where its images are."""
    pairs = zip(answer.data, urls, strict=True)
    data = [image.model_copy(update={"url": url}) for image, url in pairs]
    return answer.model_copy(update={"data": data})


def stored_answer(job: Job) -> ImagesAnswer:
    """The answer of a completed job, without its images."""
    return ImageAnswer.model_validate(job.answer)


class EventStream(StreamingResponse):
    """A stream of server-sent events, whose work is given up when its client leaves."""

    def __init__(self, events: AsyncIterator[bytes], work: "asyncio.Task[Generated]") -> None:
        super().__init__(events, media_type=STREAM_TYPE, headers=STREAM_HEADERS)
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:  # the events themselves end only if they were begun
            self._work.cancel()
            await asyncio.wait({self._work})


async def stream(engine: EngineFace, order: Order) -> EventStream:
    """The events of an order, previews first; whatever the engine refuses at once is raised here,
    while there can still be an answer of another status."""
    if order.body.trace:
        check_traced(order.weighed.cost)
    heard: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the work has ended
    previews, watched = order.body.partial_images or 0, bool(order.body.trace)
    work = asyncio.create_task(
        submit(engine, order, heard.put_nowait, previews=previews, watched=watched)
    )
    work.add_done_callback(lambda _: heard.put_nowait(None))
    try:
        taken = await heard.get()  # an engine tells of 0 steps when it takes a request
        if work.done():
            work.result()
            heard.put_nowait(None)
    except BaseException:
        work.cancel()
        await asyncio.wait({work})
        raise
    return EventStream(_events(order, taken, work, heard), work)


async def _events(
    order: Order,
    taken: Event | None,
    work: "asyncio.Task[Generated]",
    heard: "asyncio.Queue[Event | None]",
) -> AsyncIterator[bytes]:
    kind = "image_generation" if order.request.edit is None else "image_edit"
    if order.body.trace and isinstance(taken, Progress):
        yield _event(queued(kind, taken))
    loop = asyncio.get_running_loop()
    silent_since = loop.time()
    try:
        while True:
            try:
                async with asyncio.timeout_at(silent_since + KEEPALIVE_SECONDS):
                    event = await heard.get()
            except TimeoutError:  # however many steps there were: they send nothing
                yield KEEPALIVE_COMMENT
                silent_since = loop.time()
                continue
            if event is None:
                break
            if isinstance(event, Preview):
                yield await run_in_threadpool(_preview, kind, order, event)
                silent_since = loop.time()
            elif isinstance(event, Watched):
                yield _event(traced(kind, event))
                silent_since = loop.time()
        for position, image in enumerate(work.result().images):
            yield await run_in_threadpool(_completed, kind, order, position, image)
    except Exception as error:
        yield error_frame(error)


def _preview(kind: str, order: Order, preview: Preview) -> bytes:
    event = PreviewEvent(
        **_common(f"{kind}.partial_image", order, preview.image_index),
        b64_json=base_64(order.file(preview.image)),
        partial_image_index=preview.number,
        step=preview.step,
    )
    return _event(event)


def _completed(kind: str, order: Order, position: int, image: Image.Image) -> bytes:
    event = ImageEvent(
        **_common(f"{kind}.completed", order, order.request.image_indices[position]),
        b64_json=base_64(order.file(image, parameters(order.request, order.model.name))),
        usage=order.usage(position),
        model=order.model.name,
        warnings=order.warnings,
        verdict=order.verdicts([image])[0],
        safety_identifier=order.body.safety_identifier,
        long_prompt=order.request.long_prompt or None,
        size_policy=order.size_policy,
        drawn_size=order.drawn_size,
        **order.request.options.flat(),
    )
    return _event(event)


def _common(name: str, order: Order, index: int) -> dict[str, Any]:
    return {
        "type": name,
        "created_at": int(time.time()),
        "size": size_text(order.size),
        "quality": order.body.used_quality or "auto",
        "background": order.background,
        "output_format": order.body.image_format,
        "seed": order.request.seed,
        "image_index": index,
    }


def _event(event: PreviewEvent | CompletedEvent | QueuedEvent | TraceEvent) -> bytes:
    return frame(event.type, event)
