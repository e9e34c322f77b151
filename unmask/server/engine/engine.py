"""The engine: what the routes hand requests to.

Its face is small (start, open, submit, stats, drain, stop), so that a replica elsewhere can be just
that.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn

from unmask.errors import QueueFullError, RequestError, UnavailableError
from unmask.pipeline import DrawRequest, Generated
from unmask.server.engine.costs import OpenedModel, WeighedRequest, weigh
from unmask.server.engine.figures import Figures, Stats
from unmask.server.engine.models import (
    RETRY_SECONDS,
    ModelSource,
    ModelStore,
)
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.status import ModelStatus
from unmask.server.engine.threads import run_in_thread_that_ends
from unmask.server.engine.tickets import Event, Priority, Progress, Ticket
from unmask.server.engine.worker import Worker
from unmask.settings import OnDeath, Settings
from unmask.store import served_models

log = logging.getLogger(__name__)

JOIN_SECONDS = 1.0  # a thread that is in a step for longer is left to die with us
# Rows that a CPU steps at a time: more are hardly quicker together, and who comes waits for them.
CPU_STEP_ROWS = 2
MOST_PREPARES = 2  # edits at a time, for each takes memory and a core
MOST_DEATHS = 5  # of one worker within a minute; then it is left dead
STOPPING = "the server is stopping"


class EngineState(Enum):
    """What an engine does for those who ask; requests are taken in READY and LEAVING."""

    NEW = auto()
    STARTING = auto()
    READY = auto()
    FAILED = auto()  # the default model could not be loaded, and will be tried again
    DEAD = auto()  # no worker is left
    LEAVING = auto()  # it will stop soon, and says so to whoever spreads requests over replicas
    STOPPING = auto()


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
    step_rows: int | None = None  # stepped at a time; None: all, and on a CPU ``CPU_STEP_ROWS``
    pad: bool | None = None  # batches to powers of two; None: on all devices but a CPU
    # Tokens turn into pixels beside the next step; None: on all devices but a CPU, where that
    # would only take the step's cores away.
    finisher: bool | None = None

    @classmethod
    def of(cls, settings: Settings) -> "EngineOptions":
        """The options that the operator's settings ask for."""
        return cls(
            models=served_models(settings.model, settings.more_models, settings.adapters),
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
    a worker, one thread a device. All of it is called from one event loop."""

    def __init__(self, options: EngineOptions, source: ModelSource) -> None:
        """ConfigError if two of the models have one name."""
        self.options = options
        self.figures, self.queue = Figures(), FairQueue()
        names = {f"worker-{i}": device for i, device in enumerate(options.devices)}
        self.store = ModelStore(options.models, names, source, options.memory_bytes, self._is_used)
        self.state, self.reason = EngineState.NEW, "the server has not started"
        # Never changed but replaced, for the workers' threads read it.
        self.workers: dict[str, Worker] = {}
        self._open: set[Ticket] = set()
        self._preparing = 0  # edits, of which so many at a time are really being prepared:
        self._prepares = asyncio.Semaphore(MOST_PREPARES)
        self._deaths: dict[str, list[float]] = {name: [] for name in names}
        self._loading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to load the default model, and return at once; needs a running event loop."""
        self._become(EngineState.STARTING, "the model is still loading")
        self._loop = asyncio.get_running_loop()
        self._loading = asyncio.create_task(self._load_default())

    async def _load_default(self) -> None:
        while True:
            try:
                await self.store.open()
                break
            except UnavailableError as error:
                self._become(EngineState.FAILED, str(error))
                await asyncio.sleep(RETRY_SECONDS)
        for name in self.store.devices:
            self._start_worker(name)
        self._become(EngineState.READY)

    def _become(self, state: EngineState, reason: str = "") -> None:
        if self.state is not EngineState.STOPPING:
            self.state, self.reason = state, reason

    def _start_worker(self, name: str) -> None:
        options, cpu = self.options, self.store.devices[name].startswith("cpu")
        worker = Worker(
            name,
            self.queue,
            self.figures,
            lambda model: self.store.copy(model, name),
            max_rows=options.max_rows,
            step_rows=options.step_rows or (CPU_STEP_ROWS if cpu else options.max_rows),
            finisher=not cpu if options.finisher is None else options.finisher,
            pad=not cpu if options.pad is None else options.pad,
            has_most_room=lambda worker: (
                worker.room >= max((other.room for other in self.workers.values()), default=0)
            ),
            on_end=self._hear_end,
        )
        self.workers = {**self.workers, name: worker}
        worker.start()

    def ready(self) -> None:
        """Return if new requests are welcome; UnavailableError tells why they are not."""
        if self.state is not EngineState.READY:
            raise UnavailableError(self.reason)

    def _check_taking(self) -> None:
        if self.state not in (EngineState.READY, EngineState.LEAVING):
            raise UnavailableError(self.reason)

    @property
    def models(self) -> list[ModelStatus]:
        """The models that can be asked for, the default one first."""
        return self.store.statuses()

    async def open(self, name: str | None = None) -> OpenedModel:
        """A model (the default one if None), loaded now if it is not. NotFoundError,
        UnavailableError."""
        self._check_taking()
        return await self.store.open(name)

    async def weigh(self, request: DrawRequest, model: OpenedModel) -> WeighedRequest:
        """A request to the model that made it, made ready to be submitted. QueueFullError if as
        many wait already as may, for a large edit is not prepared in vain; UnavailableError."""
        self._check_taking()
        if request.edit is None:
            return await asyncio.to_thread(weigh, model, request)
        self._check_length()
        self._preparing += 1
        try:
            async with self._prepares:
                return await run_in_thread_that_ends(weigh, model, request)
        finally:
            self._preparing -= 1

    async def submit(
        self,
        weighed: WeighedRequest,
        *,
        key: str = "",
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        previews: int = 0,
        watched: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> Generated:
        """The images of a request; cancelling the wait gives it up.

        ``on_event`` hears of progress and previews, and if it is ``watched`` of what each step did,
        in the event loop. ``key`` is who asks: keys
        get equal shares. At once RequestError if it could not end within ``timeout`` seconds even
        alone, and QueueFullError if too much waits; UnavailableError when the engine is not ready,
        or stops or loses its worker before the request is done; TimeoutError after the timeout;
        else whatever drawing it raised.
        """
        self._check_taking()
        if timeout is not None:
            self._check_fits(weighed, timeout)
        self._check_length()
        ahead = self._check_wait(key, priority)
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            if on_event is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and all who listened
                    loop.call_soon_threadsafe(on_event, event)

        ticket = Ticket(
            weighed,
            key=key,
            priority=priority,
            previews=previews,
            watched=watched,
            on_event=tell,
        )
        self._open.add(ticket)  # from here on its model is in use
        self.figures.count("admitted")
        ticket.tell(Progress(0, ticket.cost.all_steps, ahead))
        try:
            async with asyncio.timeout(timeout):
                await self.store.reopen(ticket.model)  # it may have been put away since
                self.queue.put(ticket)
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
            self.queue.remove(ticket)
            self._open.discard(ticket)

    def stats(self) -> Stats:
        """The figures of now."""
        taking = self.state in (EngineState.READY, EngineState.LEAVING)
        return self.figures.read(
            ready_workers=len(self.workers) if taking else 0,
            queued=len(self.queue),
            queued_seconds=self._seconds(
                [(ticket.model, ticket.cost.work * ticket.left) for ticket in list(self._open)]
            ),
            running=sum(len(worker.running) for worker in self.workers.values()),
            models=self.store.loaded_bytes(),
            loads=self.store.loads(),
            names=self.store.names(),
        )

    def leave(self) -> None:
        """Be ready no more, but take requests still."""
        if self.state is EngineState.READY:
            self._become(EngineState.LEAVING, STOPPING)

    def refuse(self) -> None:
        """Take nothing new any more; what was taken goes on."""
        self._become(EngineState.STOPPING, STOPPING)

    async def drain(self, seconds: float) -> bool:
        """Take nothing new, and wait so long for what is there; whether all of it was done."""
        self.refuse()
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
            await asyncio.wait({self._loading})
        await self.store.close()
        workers, self.workers = list(self.workers.values()), {}
        for worker in workers:
            worker.stop()
        await asyncio.gather(*(asyncio.to_thread(worker.join, JOIN_SECONDS) for worker in workers))

    def _seconds(self, work_by_model: list[tuple[str, float]]) -> float:
        """How long all workers together take for so much work of models, by what was measured."""
        seconds = sum(self.figures.times(model).seconds(work) for model, work in work_by_model)
        return seconds / max(len(self.workers), 1)

    def _check_fits(self, weighed: WeighedRequest, timeout: float) -> None:
        """RequestError if a request could not end in time even if there were no other."""
        cost, times = weighed.cost, self.figures.times(weighed.model.key)
        runs = cost.windows * cost.images
        rounds = max(cost.depth, math.ceil(runs / self.options.max_rows))
        step_work = cost.work / (rounds * cost.steps)
        seconds = rounds * cost.steps * times.step_seconds(step_work)
        if seconds <= timeout:
            return
        self.figures.count("refused")
        share = timeout / seconds
        raise RequestError(
            f"this would take about {math.ceil(seconds)} s even alone, and a request is given up "
            f"after {timeout:g} s: {_fitting(weighed, share)}",
            _longest(weighed),
        )

    def _check_length(self) -> None:
        """QueueFullError if as many requests wait as may."""
        waiting = len(self.queue) + self._preparing
        if waiting >= self.options.max_queue:
            self._refuse(f"{waiting} requests are waiting already", self.stats().queued_seconds)

    def _check_wait(self, key: str, priority: Priority) -> int:
        """How many come before a new request; QueueFullError if it would wait too long."""
        room = sum(max(worker.room, 0) for worker in self.workers.values())
        blocking, ahead = [], self.queue.ahead(key, priority)
        for ticket in ahead:
            if room > 0:  # it will be taken in a moment
                room -= ticket.cost.images
            else:  # after a window of it others may pass
                blocking.append((ticket.model, ticket.cost.work / ticket.cost.windows))
        seconds = self._seconds(blocking)
        if seconds > self.options.max_wait_seconds:
            self._refuse(f"what waits already will take {math.ceil(seconds)} s", seconds)
        return len(ahead)

    def _refuse(self, reason: str, seconds: float) -> NoReturn:
        self.figures.count("refused")
        raise QueueFullError(reason, min(max(math.ceil(seconds / 2), 1), 60))

    def _is_used(self, model: str) -> bool:
        return any(ticket.model == model for ticket in self._open)

    def _hear_end(self, worker: Worker, error: BaseException | None) -> None:
        """In the thread of a worker, as its last act."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all who waited
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._bury, worker, error)

    def _bury(self, worker: Worker, error: BaseException | None) -> None:
        """Fail what a worker had whose thread has ended, and start another if it died."""
        message = STOPPING
        if error is not None:
            kind = type(error).__name__
            message = f"the worker has died ({kind}): see the log of the server"
            self.figures.count("deaths")
        for ticket in list(self._open):
            if ticket.taken_by == worker.name:
                ticket.fail(UnavailableError(message))
        if error is None or self.state is EngineState.STOPPING:
            return
        now = time.monotonic()
        recent = [death for death in self._deaths[worker.name] if now - death < 60] + [now]
        self._deaths[worker.name] = recent
        if self.options.on_death == "exit":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.options.on_death == "restart" and len(recent) <= MOST_DEATHS:
            self._start_worker(worker.name)
            return
        self.workers = {name: other for name, other in self.workers.items() if other is not worker}
        self.queue.wake()  # another may have the most room now
        if not self.workers:
            self._become(EngineState.DEAD, message)
            for ticket in list(self._open):
                ticket.fail(UnavailableError(message))


def _longest(weighed: WeighedRequest) -> str:
    """The field that makes a request long."""
    if weighed.cost.windows > 1:
        return "frames" if weighed.request.is_clip else "image"
    return "n" if weighed.cost.images > 1 else "steps"


def _fitting(weighed: WeighedRequest, share: float) -> str:
    """What would take so small a share of a request's time."""
    cost, frames = weighed.cost, weighed.request.frames
    if cost.windows > 1 and frames is not None:
        return f"about {max(1, math.floor(frames * share))} frames would fit"
    if cost.windows > 1:
        windows = max(1, math.floor(cost.windows * share))
        return (
            f"of the {cost.windows} windows that are drawn of the picture about {windows} would "
            "fit: mask less of it, or send a smaller one"
        )
    steps = max(1, math.floor(cost.steps * share))
    if cost.images > 1:
        images = max(1, math.floor(cost.images * share))
        return f"about {images} images would fit, or {steps} steps"
    return f"about {steps} steps would fit"
