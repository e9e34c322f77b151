"""The face of this room: what routes ask of jobs."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError
from starlette.concurrency import run_in_threadpool

from unmask.errors import ConfigError, NotFoundError, UnavailableError
from unmask.server.jobs.files import JobFiles, StoredFile
from unmask.server.jobs.job import Fault, Job, NewJob, Page
from unmask.server.jobs.kinds import Kind, Preview
from unmask.server.jobs.remote_files import open_files
from unmask.server.jobs.runner import Runner, begin_apart
from unmask.server.jobs.store import JobStore, not_found
from unmask.server.jobs.sweeper import Sweeper
from unmask.server.jobs.watches import Watches
from unmask.server.jobs.webhooks import Caller, Hooks
from unmask.server.state.state import State
from unmask.settings import Settings

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
CALL_SECONDS = 1.0  # between two looks for webhooks to be called
TIDY_SWEEPS = 720  # an hour


class Jobs:
    """The jobs of one state, drawn by this process too. All of it is called from one event loop.

    A folder that holds no jobs yet is not touched until the first is accepted, or a webhook asked
    for.
    """

    def __init__(
        self,
        settings: Settings,
        kinds: Mapping[str, Kind],
        state: State,
        *,
        is_ready: Callable[[], bool],
        is_stopping: Callable[[], bool],
        tell: Callable[[Exception], Fault],
        hear_counts: Callable[[Mapping[str, int]], None],
    ) -> None:
        """``is_ready``: whether jobs may be begun; ``is_stopping``: whether those who wait must go;
        ``tell`` puts an error into the words of an answer; ``hear_counts`` hears how many jobs of
        each owner have not ended."""
        self._settings, self._kinds, self._state = settings, kinds, state
        self._is_ready, self.is_stopping, self._tell = is_ready, is_stopping, tell
        self._hear_counts = hear_counts
        self._watches = Watches()
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None
        self._upkeep: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Go on with the jobs that there are, if they can be read."""
        with suppress(UnavailableError):
            await self._open_if_there()

    async def stop(self) -> None:
        """Give back what is not done."""
        if self._opened is None:
            return
        for task in self._upkeep:
            task.cancel()
        await asyncio.wait(self._upkeep)
        await self._opened.runner.stop()
        self._opened = None

    async def earlier(self, owner: str, key: str | None, digest: str) -> Job | None:
        """The job that a sender's key stands for, if there is one. ReusedKeyError."""
        opened = await self._open_if_there()
        if opened is None:
            return None
        return await run_in_threadpool(opened.store.earlier, owner, key, digest)

    async def accept(self, new: NewJob, *, at_once: bool = False) -> Job:
        """Keep a request: when this returns, it outlives a kill and a loss of power. The job is the
        earlier one if the owner's key stands for one. ``at_once``: somebody waits, so it goes
        before those that wait in the queue. QueueFullError if the store is full, ReusedKeyError,
        UnavailableError if nothing can be kept."""
        opened = await self._open()
        job_id = f"job_{secrets.token_hex(12)}"
        claimed_by = opened.runner.name if at_once else None
        try:
            await run_in_threadpool(opened.store.check_room, new)
            await run_in_threadpool(opened.files.keep_uploads, job_id, new.uploads)
            job = await run_in_threadpool(opened.store.add, new, job_id, claimed_by)
        except Exception as error:
            await run_in_threadpool(opened.files.drop, job_id)
            if not isinstance(error, OSError | DBAPIError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error.orig
            raise UnavailableError(f"the job cannot be kept: {reason}") from None
        if job.id != job_id:
            await run_in_threadpool(opened.files.drop, job_id)
            return job
        await self._count()
        if at_once:
            opened.runner.begin(job)
        else:
            opened.runner.wake()
        return job

    async def find(self, owner: str | None, job_id: str) -> Job:
        """A job of an owner, or anybody's if the owner is None. NotFoundError."""
        opened = await self._open_if_there()
        if opened is None:
            raise not_found(job_id)
        return await run_in_threadpool(opened.store.find, job_id, owner)

    async def page(self, owner: str, *, after: str | None = None, **chosen: Any) -> Page:
        """Jobs of an owner, as ``JobStore.page`` has it."""
        opened = await self._open_if_there()
        if opened is not None:
            return await run_in_threadpool(lambda: opened.store.page(owner, after=after, **chosen))
        if after is not None:
            raise not_found(after)
        return Page((), False)

    async def cancel(self, owner: str, job_id: str) -> Job:
        """End a job without a result: its work stops at the next step. A job that has ended stays
        as it is. NotFoundError."""
        job = await self.find(owner, job_id)
        opened = await self._open()
        if await run_in_threadpool(opened.store.cancel, job.id):
            opened.runner.give_up(job.id)
            await run_in_threadpool(opened.files.drop, job.id)
            self._watches.tell(job.id)
            await self._count()
        return await self.find(owner, job_id)

    async def remove(self, owner: str, job_id: str) -> None:
        """Forget a job that has ended, and its files; another stays. NotFoundError."""
        job = await self.find(owner, job_id)
        opened = await self._open()
        if await run_in_threadpool(opened.store.remove, job.id):
            await run_in_threadpool(opened.files.drop, job.id)
            self._watches.tell(job.id)

    def preview(self, job: Job) -> Preview | None:
        """The last preview of a job that this process draws, if it has any."""
        return None if self._opened is None else self._opened.runner.preview(job.id)

    async def next_change(self, job: Job, previews: int | None = None) -> Job:
        """The job, when its status or progress is another, or when there is another preview than
        the first so many. UnavailableError when the server stops, NotFoundError when the job is
        removed."""
        while True:
            # Looked at before the row is read, a change in between would wake nobody.
            waiting = asyncio.ensure_future(self._watches.change(job.id))
            try:
                now = await self.find(None, job.id)
                if (now.status, now.progress) != (job.status, job.progress):
                    return now
                if previews is not None and self._has_more(job, previews):
                    return now
                if self.is_stopping():
                    raise UnavailableError("the server is stopping; the job goes on after it")
                await waiting
            finally:
                waiting.cancel()

    def _has_more(self, job: Job, previews: int) -> bool:
        preview = self.preview(job)
        return preview is not None and preview.number >= previews

    async def end(self, job: Job) -> Job:
        """The job, when it has ended. Errors as of ``next_change``."""
        while not job.has_ended:
            job = await self.next_change(job)
        return job

    async def result(self, job_id: str, secret: str, name: str) -> StoredFile:
        """A result's file, for whoever knows its secret: nobody else learns whether it is there.
        NotFoundError."""
        job = await self.find(None, job_id)
        if not secrets.compare_digest(job.secret.encode(), secret.encode()):
            raise not_found(job_id)
        found = await run_in_threadpool((await self._open()).files.result, job, name)
        if found is None:
            raise not_found(job_id)
        return found

    async def read(self, job: Job) -> dict[str, bytes]:
        """The files of a completed job, by name. NotFoundError if it was removed meanwhile."""
        opened = await self._open()

        def read(name: str) -> bytes:
            stored = opened.files.result(job, name)
            if stored is None:
                raise not_found(job.id)
            with stored.open() as file:
                return file.read()

        try:
            return {note.name: await run_in_threadpool(read, note.name) for note in job.files}
        except FileNotFoundError:
            raise not_found(job.id) from None

    async def hooks(self) -> Hooks:
        """The webhooks of all owners. NotFoundError if the settings have none."""
        if not self._settings.webhooks:
            raise NotFoundError("this server calls no webhooks: UNMASK_WEBHOOKS", "webhook")
        return (await self._open()).hooks

    async def _open_if_there(self) -> "_Opened | None":
        """What works on the folder, if it holds jobs. UnavailableError."""
        if self._opened is None and not self._state.is_there:
            return None
        return await self._open()

    async def _open(self) -> "_Opened":
        """What works on the folder, which is made if need be. UnavailableError if it cannot be."""
        async with self._opening:
            if self._opened is None:
                try:
                    self._opened = await run_in_threadpool(self._make)
                except (ConfigError, OSError, DBAPIError) as error:
                    log.error("jobs cannot be kept: %s", error)
                    message = "jobs cannot be kept: see the log of the server"
                    raise UnavailableError(message) from None
                self._opened.runner.start()
                self._upkeep = [begin_apart(self._keep_up(self._opened))]
                if self._settings.webhooks:
                    caller = Caller(self._opened.hooks)
                    self._upkeep.append(begin_apart(caller.run(CALL_SECONDS)))
                await self._count()
        return self._opened

    def _make(self) -> "_Opened":
        settings, bound = self._settings, self._settings.store_bytes
        # It is tried again at each request: whatever a try opened must be closed if it fails.
        with ExitStack() as undo:
            state = self._state.open()
            undo.callback(self._state.let_go)
            store = JobStore(state.engine, settings.job_lifetime_seconds, bound // 2)
            files = open_files(settings)
            sweeper = Sweeper(store, files, state.presence, bound)
            sweeper.tidy()
            sweeper.sweep()
            undo.pop_all()
        runner = Runner(
            state.presence.runner,
            store,
            files,
            sweeper,
            self._watches,
            self._kinds,
            most=settings.running_jobs,
            is_ready=self._is_ready,
            tell=self._tell,
            on_end=self._count,
        )
        return _Opened(store, files, sweeper, runner, Hooks(state.engine))

    async def _count(self) -> None:
        """Tell how many jobs each owner has that have not ended."""
        if self._opened is not None:
            self._hear_counts(await run_in_threadpool(self._opened.store.unended))

    async def _keep_up(self, opened: "_Opened") -> None:
        for number in itertools.count(1):
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                for job_id in await run_in_threadpool(opened.sweeper.sweep):
                    self._watches.tell(job_id)
                if number % TIDY_SWEEPS == 0:
                    await run_in_threadpool(opened.sweeper.tidy)
                await self._count()
            except Exception:
                log.exception("the store of jobs could not be swept")


@dataclass(frozen=True)
class _Opened:
    """What works on a state."""

    store: JobStore
    files: JobFiles
    sweeper: Sweeper
    runner: Runner
    hooks: Hooks
