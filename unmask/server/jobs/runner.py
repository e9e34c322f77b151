"""The runner: draws the jobs that wait, a few at a time, and sees to it that each of them ends."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from starlette.concurrency import run_in_threadpool

from unmask.errors import QueueFullError, UnavailableError, UnmaskError
from unmask.server.jobs.files import JobFiles
from unmask.server.jobs.job import Fault, Job
from unmask.server.jobs.kinds import Kind, Preview, Result
from unmask.server.jobs.store import MOST_ATTEMPTS, JobStore
from unmask.server.jobs.sweeper import Sweeper
from unmask.server.jobs.watches import Watches

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # for jobs that other processes have accepted
REPORT_SECONDS = 0.5  # between two notes of how far a job is
RETRY_SECONDS = 5.0  # after which whatever was not available may be


@dataclass(eq=False)
class Run:
    """A job that is being drawn."""

    job: Job
    percent: int = 0
    noted: int = 0
    preview: Preview | None = None  # the last
    tell: Callable[[], None] = field(default=lambda: None)  # that there is a preview

    def report(self, share: float, preview: Callable[[], bytes] | None = None) -> None:
        """So much is done."""
        self.percent = max(self.percent, int(share * 100))
        if preview is not None:
            number = 0 if self.preview is None else self.preview.number + 1
            self.preview = Preview(number, preview)
            self.tell()


class Runner:
    """Claims jobs and draws them, in one event loop."""

    def __init__(
        self,
        name: str,
        store: JobStore,
        files: JobFiles,
        sweeper: Sweeper,
        watches: Watches,
        kinds: Mapping[str, Kind],
        *,
        most: int,
        is_ready: Callable[[], bool],
        tell: Callable[[Exception], Fault],
        on_end: Callable[[], Awaitable[None]],
    ) -> None:
        """``most`` jobs are drawn at a time, and none is begun unless ``is_ready``; ``tell`` puts
        an error into the words of an answer; ``on_end`` is called after each run."""
        self.name, self._store, self._files, self._sweeper = name, store, files, sweeper
        self._watches, self._kinds, self._most = watches, kinds, most
        self._is_ready, self._tell, self._on_end = is_ready, tell, on_end
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._woken = asyncio.Event()
        self._stopping = False
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look for jobs."""
        self._loops = [begin_apart(self._claim()), begin_apart(self._note())]

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def begin(self, job: Job) -> None:
        """Draw a job that this runner has claimed."""
        tell = partial(self._watches.tell, job.id)
        run = Run(job, job.progress, job.progress, tell=tell)
        task = asyncio.create_task(self._run(run))
        self._runs[job.id] = (run, task)
        task.add_done_callback(lambda _: self._forget(job.id))

    def give_up(self, job_id: str) -> None:
        """Stop the work on a job at its next step, if there is any."""
        if job_id in self._runs:
            self._runs[job_id][1].cancel()

    def preview(self, job_id: str) -> Preview | None:
        """The last preview of a job that is being drawn here, if it has any."""
        return self._runs[job_id][0].preview if job_id in self._runs else None

    async def stop(self) -> None:
        """Give back what is not done, and return when nothing is at work any more."""
        self._stopping = True
        tasks = [*self._loops, *(task for _, task in self._runs.values())]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, job_id: str) -> None:
        del self._runs[job_id]
        self.wake()

    async def _claim(self) -> None:
        while True:
            self._woken.clear()
            try:
                while len(self._runs) < self._most and self._is_ready():
                    job = await run_in_threadpool(self._store.claim, self.name)
                    if job is None:
                        break
                    self._watches.tell(job.id)
                    self.begin(job)
            except Exception:
                log.exception("no job could be claimed")
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()

    async def _note(self) -> None:
        """Note how far the jobs are, and give up those that were taken away."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            for job_id, (run, task) in list(self._runs.items()):
                percent = run.percent
                if percent == run.noted:
                    continue
                try:
                    held = await run_in_threadpool(self._store.progress, job_id, self.name, percent)
                except Exception:
                    log.exception("the progress of job %s could not be noted", job_id)
                    continue
                run.noted = percent
                self._watches.tell(job_id)
                if not held:
                    task.cancel()

    async def _run(self, run: Run) -> None:
        job, store = run.job, self._store
        try:
            result = await self._draw(run)
            if await self._sweeper.keep(job, self.name, result):
                log.info("job %s is done", job.id)
        except asyncio.CancelledError:
            # It was cancelled, and has ended; or the process stops.
            await run_in_threadpool(store.release, job.id, self.name, 0.0, untried=True)
        except Exception as error:
            await self._hear_out(job, error)
        self._watches.tell(job.id)
        await self._on_end()

    async def _draw(self, run: Run) -> Result:
        job = run.job
        uploads = await run_in_threadpool(self._files.uploads, job.id)
        return await self._kinds[job.kind].draw(job, uploads, run.report)

    async def _hear_out(self, job: Job, error: Exception) -> None:
        """Hear of an error until it is written down: else nobody would ever take the job up."""
        while True:
            try:
                await self._hear(job, error)
                return
            except Exception:
                log.exception("the end of job %s could not be noted", job.id)
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self, job: Job, error: Exception) -> None:
        """What becomes of a job whose drawing raised an error."""
        if isinstance(error, QueueFullError):
            args = (job.id, self.name, float(error.retry_after))
            await run_in_threadpool(self._store.release, *args, untried=True)
            return
        untried = self._stopping or not self._is_ready()
        if isinstance(error, UnavailableError) and (untried or job.attempts < MOST_ATTEMPTS):
            args = (job.id, self.name, RETRY_SECONDS)
            await run_in_threadpool(self._store.release, *args, untried=untried)
            return
        if not isinstance(error, UnmaskError | TimeoutError):
            log.error("job %s failed", job.id, exc_info=error)
        if await run_in_threadpool(self._store.fail, job.id, self.name, self._tell(error)):
            await run_in_threadpool(self._files.drop, job.id)


def begin_apart(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Work that goes on for ever, in a context of its own: what it does for others must not be put
    down to the request that happens to begin it."""
    return asyncio.create_task(work, context=contextvars.Context())
