"""The sweeper: keeps what jobs take below a bound, and takes up what a killed process left."""

import asyncio
import logging

from starlette.concurrency import run_in_threadpool

from unmask.errors import DrawingError, NotFoundError
from unmask.server.jobs.files import JobFiles
from unmask.server.jobs.job import Job
from unmask.server.jobs.kinds import Result
from unmask.server.jobs.store import ROW_BYTES, JobStore
from unmask.server.state.presence import Presence

log = logging.getLogger(__name__)


class Sweeper:
    """Removes jobs that have ended: when their lifetime is over, and before it, the oldest first,
    where there is no room for new ones."""

    def __init__(
        self,
        store: JobStore,
        files: JobFiles,
        presence: Presence,
        max_bytes: int,
    ) -> None:
        """Jobs and their files may take ``max_bytes``."""
        self._store, self._files, self._presence = store, files, presence
        self._max_bytes = max_bytes
        self._keeping = asyncio.Lock()  # room that was made is used before more is

    async def keep(self, job: Job, runner: str, result: Result) -> bool:
        """Put a job's result on disk and end it; False if the runner has it no more. DrawingError
        if there is no room for it."""
        needed = sum(len(file.data) for file in result.files) + ROW_BYTES
        async with self._keeping:
            await run_in_threadpool(self._make_room, needed)
            notes = await run_in_threadpool(self._files.keep_results, job.id, result.files)
            ended = await run_in_threadpool(
                self._store.complete, job.id, runner, result.answer, notes
            )
        await run_in_threadpool(self._files.drop_uploads if ended else self._drop_if_over, job.id)
        return ended

    def sweep(self) -> list[str]:
        """Take up the jobs of runners that are gone, and remove what must go; the ids of jobs that
        have failed by it. Blocks."""
        failed = []
        for runner in self._store.runners():
            if self._presence.is_gone(runner):
                failed += self._store.recover(runner)
        for job_id in failed:
            self._files.drop(job_id)
        while expired := self._store.removable(expired=True):
            for job_id, _ in expired:
                self._remove(job_id)
        self._make_room(0)
        return failed

    def tidy(self) -> None:
        """Remove files that belong to no job any more, and the signs of runners that are gone: what
        a process left that was killed between two changes. Blocks."""
        self._presence.clear()
        for job_id in self._files.ids():
            try:
                job = self._store.find(job_id)
            except NotFoundError:
                self._files.drop(job_id)
                continue
            if job.status == "completed":
                self._files.drop_uploads(job_id)
            elif job.has_ended:
                self._files.drop(job_id)

    def _make_room(self, needed: int) -> None:
        """Remove jobs until there is room for so many bytes more. DrawingError if there cannot be;
        then none is removed."""
        if needed and self._store.bytes(unended=True) + needed > self._max_bytes:
            raise DrawingError(f"the store has no room for a result of {needed} bytes")
        excess = self._store.bytes() + needed - self._max_bytes
        while excess > 0:
            oldest = self._store.removable(expired=False)
            if not oldest:
                return
            for job_id, size in oldest:
                if excess <= 0:
                    return
                self._remove(job_id)
                excess -= size

    def _drop_if_over(self, job_id: str) -> None:
        """Remove the files of a job that was cancelled or removed; if another runner has it now,
        they are that one's."""
        try:
            job = self._store.find(job_id)
        except NotFoundError:
            self._files.drop(job_id)
            return
        if job.has_ended and job.status != "completed":
            self._files.drop(job_id)

    def _remove(self, job_id: str) -> None:
        if self._store.remove(job_id):
            self._files.drop(job_id)
