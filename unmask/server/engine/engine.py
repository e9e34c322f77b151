"""The engine: what the routes hand requests to.

Its face is small (start, open, submit, stats, drain, stop), so that a replica elsewhere can be just
that.
"""

import asyncio
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from unmask.errors import UnavailableError
from unmask.pipeline import DrawRequest, Generated, ModelInfo, Pipeline, PreparedRequest
from unmask.server.engine.figures import Figures, Stats
from unmask.server.engine.models import ModelStore
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.tickets import Event, Priority, Ticket
from unmask.server.engine.worker import Worker
from unmask.settings import OnDeath, Settings
from unmask.store import default_model

log = logging.getLogger(__name__)

T = TypeVar("T")

STARTING = "the model is still loading"
STOPPING = "the server is stopping"
JOIN_SECONDS = 10  # a thread that is in a step for longer is left to die with us
MOST_DEATHS = 5  # of one worker within a minute; then it is left dead
FIRST_RATE = 2000.0  # tokens times passes a second, until a step was measured


class QueueFullError(UnavailableError):
    """As much waits as may wait; ``retry_after`` says in how many seconds there may be room."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}: try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class EngineOptions:
    """How an engine works."""

    models: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)
    max_queue: int = 32
    max_wait_seconds: float = 120.0
    max_rows: int = 16
    memory_bytes: int = 0
    on_death: OnDeath = "restart"
    pad: bool | None = None  # batches to powers of two; None: on all devices but a CPU

    @classmethod
    def of(cls, settings: Settings) -> "EngineOptions":
        """The options that the operator's settings ask for."""
        return cls(
            models=(settings.model or default_model(), *settings.more_models),
            devices=(settings.device, *settings.more_devices),
            max_queue=settings.max_queue,
            max_wait_seconds=settings.max_wait_seconds,
            max_rows=settings.max_rows,
            memory_bytes=settings.memory_bytes,
            on_death=settings.on_death,
            pad=settings.pad,
        )


class Engine:
    """Continuous batching: requests of any scheduler, steps, guidance and age share the batches of
    a worker, one thread a device. All of it but ``start`` is called from one event loop."""

    def __init__(self, options: EngineOptions, load: Callable[[str, str], Pipeline]) -> None:
        """``load(name, device)`` makes a pipeline; it is called in threads."""
        self.options = options
        self.figures, self.queue = Figures(), FairQueue()
        names = {f"worker-{i}": device for i, device in enumerate(options.devices)}
        self.store = ModelStore(options.models, names, load, options.memory_bytes, self._used)
        self.workers: dict[str, Worker] = {}
        self._open: set[Ticket] = set()
        self._reason = "the server has not started"  # why nothing is taken; empty: it is
        self._deaths: dict[str, list[float]] = {name: [] for name in names}
        self._loading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to load the models, and return at once; needs a running event loop."""
        self._reason = STARTING
        self._loop = asyncio.get_running_loop()
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        try:
            first = next(iter(self.store.devices))
            # The default one last, so that it is not the first to be put away.
            for name in reversed(self.options.models):
                await aside(self.store.find, name, first)
        except Exception as error:
            log.critical("the model could not be loaded", exc_info=True)
            # The name only: the text of a foreign error may hold paths.
            self._reason = (
                f"the model could not be loaded ({type(error).__name__}): see the log of the server"
            )
            return
        if self._reason == STARTING:
            for name in self.store.devices:
                self._start_worker(name)
            self._reason = ""

    def _start_worker(self, name: str) -> None:
        cpu = self.store.devices[name].startswith("cpu")
        worker = Worker(
            name,
            self.queue,
            self.figures,
            lambda model: self.store.find(model, name),
            max_rows=self.options.max_rows,
            finisher=not cpu,
            pad=not cpu if self.options.pad is None else self.options.pad,
            lightest=lambda worker: worker.load <= min(w.load for w in self.workers.values()),
            ended=self._ended,
        )
        self.workers[name] = worker
        worker.start()

    def ready(self) -> None:
        """Return if requests are taken; UnavailableError tells why they are not."""
        if self._reason:
            raise UnavailableError(self._reason)

    @property
    def infos(self) -> list[ModelInfo]:
        """The models that can be asked for, the default one first."""
        self.ready()
        return [self.store.infos[name] for name in self.options.models]

    async def open(self, name: str | None = None) -> Pipeline:
        """A model (the default one if None), loaded now if it has been put away; to be asked for
        ``info`` and ``request`` only. NotFoundError, UnavailableError."""
        self.ready()
        first = next(iter(self.store.devices))
        return await aside(self.store.find, name or self.options.models[0], first)

    async def submit(
        self,
        request: DrawRequest,
        pipeline: Pipeline,
        *,
        key: str = "",
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        previews: int = 0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Generated:
        """The images of a request to the model that made it; cancelling the wait gives it up.

        ``on_event`` hears of progress and previews, in the event loop. ``key`` is who asks: keys
        get equal shares. QueueFullError at once if too much waits; UnavailableError when the engine
        is not ready, or stops or loses its worker before the request is done; TimeoutError after
        ``timeout`` seconds; else whatever drawing it raised.
        """
        self.ready()
        loop = asyncio.get_running_loop()
        prepared = await asyncio.to_thread(pipeline.prepare, request)
        cost, steps = _cost(pipeline, prepared)
        self.ready()  # still: what comes in behind a stop would wait for ever
        self._check_room(cost)

        def tell(event: Event) -> None:
            if on_event is not None:
                loop.call_soon_threadsafe(on_event, event)

        ticket = Ticket(
            prepared,
            pipeline.info.name,
            cost,
            steps,
            key=key,
            priority=priority,
            previews=previews,
            on_event=tell,
        )
        self._open.add(ticket)
        self.figures.count("admitted")
        ticket.progress(0)
        self.queue.put(ticket)
        try:
            async with asyncio.timeout(timeout):
                result = await asyncio.wrap_future(ticket.promise)
        except TimeoutError:
            self.figures.count("failed")
            raise TimeoutError(
                f"not done within {timeout:g} s: ask for fewer images or steps"
            ) from None
        except asyncio.CancelledError:
            self.figures.count("cancelled")
            raise
        except BaseException:
            self.figures.count("failed")
            raise
        else:
            self.figures.count("finished")
            return result
        finally:
            ticket.cancel()  # which changes nothing if it has its answer
            self._open.discard(ticket)

    def wait_seconds(self) -> float:
        """How long what waits and runs will take, by what was measured."""
        workers = max(len(self.workers), 1)
        rate = self.figures.rate or FIRST_RATE
        left = sum(
            ticket.cost * (1 - ticket.done_steps / max(ticket.steps, 1)) for ticket in self._open
        )
        return left / (rate * workers)

    def stats(self) -> Stats:
        """The figures of now."""
        return self.figures.read(
            ready_workers=0 if self._reason else len(self.workers),
            queued=len(self.queue),
            queued_seconds=self.wait_seconds(),
            running=sum(len(worker.running) for worker in self.workers.values()),
            models=self.store.loaded(),
        )

    async def drain(self, seconds: float) -> bool:
        """Take nothing new, and wait so long for what is there; whether all of it was done."""
        self._reason = STOPPING
        end = time.monotonic() + seconds
        while self._open and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return not self._open

    async def stop(self, seconds: float = 0.0) -> None:
        """Drain for so long, fail whatever is left, and return when no more work is done."""
        await self.drain(seconds)
        for ticket in list(self._open):
            ticket.fail(UnavailableError(STOPPING))
        if self._loading is not None:
            self._loading.cancel()
        workers = list(self.workers.values())
        for worker in workers:
            worker.stop()
        await asyncio.gather(*(asyncio.to_thread(worker.join, JOIN_SECONDS) for worker in workers))

    def _check_room(self, cost: float) -> None:
        waiting, seconds = len(self.queue), self.wait_seconds()
        reason = None
        if waiting >= self.options.max_queue:
            reason = f"{waiting} requests are waiting already"
        elif self._open and seconds > self.options.max_wait_seconds:
            reason = f"what waits already will take {math.ceil(seconds)} s"
        if reason is not None:
            self.figures.count("refused")
            raise QueueFullError(reason, min(max(math.ceil(seconds / 2), 1), 60))

    def _used(self, model: str) -> bool:
        return any(ticket.model == model for ticket in list(self._open))

    def _ended(self, worker: Worker, reason: BaseException | None) -> None:
        """In the thread of a worker, as its last act."""
        died = reason is not None
        message = f"the worker has died ({type(reason).__name__}): see the log of the server"
        for ticket in list(self._open):
            if ticket.taken_by == worker.name:
                ticket.fail(UnavailableError(message if died else STOPPING))
        if not died or self._loop is None:
            return
        self.figures.count("deaths")
        self._reason = self._reason or message
        self._loop.call_soon_threadsafe(self._replace, worker, message)

    def _replace(self, worker: Worker, message: str) -> None:
        now = time.monotonic()
        recent = [each for each in self._deaths[worker.name] if now - each < 60] + [now]
        self._deaths[worker.name] = recent
        if self._reason == STOPPING:
            return
        if self.options.on_death == "exit":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.options.on_death == "restart" and len(recent) <= MOST_DEATHS:
            self._start_worker(worker.name)
            self._reason = "" if self._reason == message else self._reason
            return
        del self.workers[worker.name]
        if not self.workers:
            for ticket in list(self._open):
                ticket.fail(UnavailableError(message))
        else:
            self._reason = ""


async def aside(function: Callable[..., T], *arguments: object) -> T:
    """The function's result, from a thread that ends with it.

    A thread of a pool would keep the OpenMP threads that loading weights has started. With more of
    those than cores OpenMP lets waiting threads sleep at once, and every step of the worker would
    take a quarter longer.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            made = function(*arguments)
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(made)

    threading.Thread(target=run, name="aside", daemon=True).start()
    # Shielded: who stops waiting does not stop the thread, which still wants to tell its result.
    return await asyncio.shield(asyncio.wrap_future(result))


def _cost(pipeline: Pipeline, prepared: PreparedRequest) -> tuple[float, int]:
    """Tokens times passes, and steps, of all images of a request."""
    plan = pipeline.plan(prepared.request)
    runs = prepared.windows * prepared.request.n
    return plan.passes * plan.tokens * runs, len(plan.steps) * runs
