"""The plain engine: one thread that loads the model, then draws one request after another."""

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import torch

from unmask.errors import UnavailableError
from unmask.pipeline import Generated, Pipeline, Request, default_model
from unmask.server.engine import QueueFullError
from unmask.settings import Settings

log = logging.getLogger(__name__)

STOPPING = "the server is stopping"
JOIN_SECONDS = 10  # a thread that is still loading weights after this is left to die with us


def load_pipeline(settings: Settings) -> Pipeline:
    """The pipeline that the settings ask for; raises NotFoundError or ConfigError."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return Pipeline.load(settings.model or default_model(), settings.device)


class _Job:
    """A request, the promise of its images, and whether anyone still wants them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.promise: Future[Generated] = Future()
        self.abandoned = False

    def fail(self, reason: str) -> None:
        if self.promise.set_running_or_notify_cancel():
            self.promise.set_exception(UnavailableError(reason))


class Worker:
    """An Engine with one thread, which serves requests in the order they came."""

    def __init__(self, load: Callable[[], Pipeline], max_queue: int) -> None:
        """``load`` makes the pipeline, in the thread; ``max_queue`` requests may wait."""
        self._load = load
        self._max_queue = max_queue
        self._thread = threading.Thread(target=self._run, name="unmask-worker", daemon=True)
        # Guards the four below. While there is a pipeline, a thread lives that empties the queue.
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._pipeline: Pipeline | None = None
        self._reason = "the server has not started"  # why there is no pipeline
        self._stopping = False
        self._last_seconds = 1.0

    def start(self) -> None:
        """Begin to load the model, and return at once."""
        self._reason = "the model is still loading"
        self._thread.start()

    async def stop(self) -> None:
        """Fail whatever waits or runs, and return when the thread has ended."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._close(STOPPING)
        await asyncio.to_thread(self._thread.join, JOIN_SECONDS)

    def model(self) -> Pipeline:
        """The loaded pipeline; raises UnavailableError with the reason when there is none."""
        pipeline = self._pipeline
        if pipeline is None:
            raise UnavailableError(self._reason)
        return pipeline

    async def submit(self, request: Request) -> Generated:
        """The images of a request, drawn after all that came before it; see Engine.submit."""
        job = _Job(request)
        self._enqueue(job)
        try:
            return await asyncio.wrap_future(job.promise)
        except asyncio.CancelledError:
            job.abandoned = True
            raise

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            self.model()  # under the lock: nobody would ever fail a job added after _close
            if len(self._waiting) >= self._max_queue:
                self._waiting = deque(job for job in self._waiting if not job.abandoned)
            if len(self._waiting) >= self._max_queue:
                retry_after = min(max(math.ceil(self._last_seconds), 1), 60)
                raise QueueFullError(len(self._waiting), retry_after)
            self._waiting.append(job)
            self._changed.notify()

    def _run(self) -> None:
        failure = "the model could not be loaded"
        try:
            pipeline = self._load()
            failure = "the worker has died"
            self._open(pipeline)
            while (job := self._next()) is not None:
                self._serve(pipeline, job)
        except BaseException as error:  # no frame above would tell those who wait
            log.critical("%s", failure, exc_info=True)
            # The name only: the text of a foreign error may hold paths.
            self._close(f"{failure} ({type(error).__name__}): see the log of the server")

    def _open(self, pipeline: Pipeline) -> None:
        with self._changed:
            if not self._stopping:
                self._pipeline = pipeline

    def _close(self, reason: str) -> None:
        with self._changed:
            self._pipeline, self._reason = None, reason
            jobs, self._waiting = self._waiting, deque()
        for job in jobs:
            job.fail(reason)

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            return None if self._stopping else self._waiting.popleft()

    def _serve(self, pipeline: Pipeline, job: _Job) -> None:
        if job.abandoned or not job.promise.set_running_or_notify_cancel():
            return

        def on_step(done: int, total: int) -> None:
            if job.abandoned or self._stopping:
                raise UnavailableError(STOPPING)

        try:
            generated = pipeline.run(job.request, on_step)
        except Exception as error:
            job.promise.set_exception(error)
        except BaseException:
            job.promise.set_exception(UnavailableError("the worker has died"))
            raise
        else:
            self._last_seconds = generated.seconds
            job.promise.set_result(generated)
