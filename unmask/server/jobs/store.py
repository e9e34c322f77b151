"""The rows of jobs. Every change is one transaction, and says in which state the job must be: so a
job that ended has ended, whoever else is at work on it."""

import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from unmask.errors import NotFoundError, QueueFullError, ReusedKeyError
from unmask.server.jobs.job import UNENDED, Fault, FileNote, Job, NewJob, Page, Status
from unmask.server.state.database import alone, changing
from unmask.server.state.tables import deliveries, jobs, places, webhooks

MOST_ATTEMPTS = 2
ROW_BYTES = 4096  # what a row and a folder take beside what they hold
FULL_SECONDS = 30  # after which there may be room again
ROOM = "room for a job"
NUL = "\0"  # no text of PostgreSQL holds it

INTERRUPTED = Fault(
    500,
    "the process that drew this was killed, twice: ask again",
    "server_error",
    code="interrupted",
)


class JobStore:
    """All jobs of a database. Its methods block; they may be called from any thread, and from
    several processes at a time."""

    def __init__(self, engine: Engine, lifetime_seconds: float, unended_bytes: int) -> None:
        """Jobs and their files are kept for so long when they have ended; those that have not may
        take so many bytes."""
        self._engine, self._lifetime, self._unended_bytes = engine, lifetime_seconds, unended_bytes

    def check_room(self, new: NewJob) -> None:
        """QueueFullError if the jobs that have not ended leave no room for another."""
        with self._engine.connect() as connection:
            self._check_room(connection, new)

    def add(self, new: NewJob, job_id: str, claimed_by: str | None = None) -> Job:
        """The new job, or the earlier one of the same key: then its id is another. Its files must
        be on disk. ``claimed_by``: the runner that begins it at once. QueueFullError,
        ReusedKeyError."""
        now = time.time()
        values = {
            "id": job_id,
            "owner": new.owner,
            "kind": new.kind,
            "form": json.dumps(new.form),
            "status": "queued" if claimed_by is None else "in_progress",
            "progress": 0,
            "created": now,
            "due": now,
            "started": None if claimed_by is None else now,
            "claimed_by": claimed_by,
            "attempts": 0 if claimed_by is None else 1,
            "files": "[]",
            "secret": secrets.token_urlsafe(32),
            "bytes": taken(new),
            "key": new.key,
            "digest": new.digest,
        }
        try:
            with changing(self._engine) as connection:
                alone(connection, ROOM)
                self._check_room(connection, new)
                return _job(connection.execute(insert(jobs).values(values).returning(jobs)).one())
        except IntegrityError:
            earlier = self.earlier(new.owner, new.key, new.digest)
            if earlier is None:
                raise
            return earlier

    def earlier(self, owner: str, key: str | None, digest: str) -> Job | None:
        """The job of a sender's key, if there is one; ReusedKeyError if it was another request."""
        if key is None:
            return None
        with self._engine.connect() as connection:
            row = connection.execute(
                select(jobs).where(jobs.c.owner == owner, jobs.c.key == key)
            ).one_or_none()
        if row is None:
            return None
        if row.digest != digest:
            raise ReusedKeyError(
                f"Idempotency-Key {key[:40]!r} was that of another request: take a new one",
                "Idempotency-Key",
            )
        return _job(row)

    def find(self, job_id: str, owner: str | None = None) -> Job:
        """A job, whoever's it is if the owner is None. NotFoundError also for one of others."""
        if NUL in job_id:
            raise not_found(job_id)
        query = select(jobs).where(jobs.c.id == job_id)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None or owner not in (None, row.owner):
            raise not_found(job_id)
        return _job(row)

    def page(
        self,
        owner: str,
        *,
        kinds: Collection[str] | None = None,
        status: Status | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page:
        """Jobs of an owner, of these kinds, the newest first or last, those that follow ``after``
        in that order. NotFoundError for an ``after`` that is no job of the owner."""
        query = select(jobs).where(jobs.c.owner == owner)
        if kinds is not None:
            query = query.where(jobs.c.kind.in_([kind for kind in kinds if NUL not in kind]))
        if status is not None:
            query = query.where(jobs.c.status == status)
        if after is not None:
            last = self.find(after, owner).number
            query = query.where(jobs.c.number > last if order == "asc" else jobs.c.number < last)
        query = query.order_by(jobs.c.number if order == "asc" else jobs.c.number.desc())
        with self._engine.connect() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return Page(tuple(map(_job, rows[:limit])), len(rows) > limit)

    def claim(self, runner: str) -> Job | None:
        """A job for the runner, from now on in progress: the oldest of the owner who has the fewest
        in progress, and of several such the one whose last turn was longest ago."""
        now = time.time()
        waits = and_(jobs.c.status == "queued", jobs.c.due <= now)
        turns = (
            select(
                jobs.c.owner,
                func.count().filter(jobs.c.status == "in_progress").label("running"),
                func.coalesce(func.max(jobs.c.started), 0.0).label("last"),
            )
            .where(jobs.c.owner.in_(select(jobs.c.owner).where(waits)))
            .group_by(jobs.c.owner)
            .subquery()
        )
        oldest = (
            select(jobs.c.id)
            .join(turns, turns.c.owner == jobs.c.owner)
            .where(waits)
            .order_by(turns.c.running, turns.c.last, jobs.c.number)
            .limit(1)
            .with_for_update(
                skip_locked=True, of=jobs
            )  # what others claim in this moment is theirs
        )
        change = (
            update(jobs)
            .where(jobs.c.id == oldest.scalar_subquery(), jobs.c.status == "queued")
            .values(
                status="in_progress",
                claimed_by=runner,
                attempts=jobs.c.attempts + 1,
                started=func.coalesce(jobs.c.started, now),
            )
            .returning(jobs)
        )
        with changing(self._engine) as connection:
            row = connection.execute(change).one_or_none()
        return None if row is None else _job(row)

    def progress(self, job_id: str, runner: str, percent: int) -> bool:
        """So much of it is done, at least; False if the runner has it no more."""
        done = min(percent, 99)
        later = case((jobs.c.progress < done, done), else_=jobs.c.progress)
        return self._change(_held(job_id, runner), {"progress": later})

    def release(self, job_id: str, runner: str, seconds: float, *, untried: bool) -> bool:
        """Give a job back, to be claimed again in so many seconds; False if the runner has it no
        more. ``untried``: it does not count as an attempt."""
        return self._change(
            _held(job_id, runner),
            {
                "status": "queued",
                "claimed_by": None,
                "due": time.time() + seconds,
                "attempts": jobs.c.attempts - (1 if untried else 0),
            },
        )

    def complete(
        self, job_id: str, runner: str, answer: Mapping[str, Any], files: Sequence[FileNote]
    ) -> bool:
        """End it with a result whose files are on disk; False if the runner has it no more."""
        text = json.dumps(answer)
        values = {
            "progress": 100,
            "answer": text,
            "files": json.dumps([asdict(file) for file in files]),
            "bytes": ROW_BYTES
            + func.length(jobs.c.form)
            + len(text)
            + sum(file.bytes for file in files),
        }
        return self._end(_held(job_id, runner), "completed", values)

    def fail(self, job_id: str, runner: str, fault: Fault) -> bool:
        """End it with an error; False if the runner has it no more."""
        return self._end(_held(job_id, runner), "failed", _without_files(fault))

    def cancel(self, job_id: str) -> bool:
        """End it without a result; False if it has ended."""
        unended = and_(jobs.c.id == job_id, jobs.c.status.in_(UNENDED))
        return self._end(unended, "cancelled", _without_files(None))

    def remove(self, job_id: str) -> bool:
        """Forget a job that has ended; False if it has not, or there is none."""
        query = delete(jobs).where(jobs.c.id == job_id, jobs.c.status.not_in(UNENDED))
        with changing(self._engine) as connection:
            return connection.execute(query).rowcount > 0

    def runners(self) -> set[str]:
        """Those that have jobs in progress, or places."""
        claimed = select(jobs.c.claimed_by).where(jobs.c.status == "in_progress")
        query = claimed.union(select(places.c.runner))
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def recover(self, runner: str) -> list[str]:
        """Take the jobs of a runner that is gone: those that may be tried again are queued, and the
        others have failed. The ids of the latter. Its places are free."""
        with changing(self._engine) as connection:
            connection.execute(delete(places).where(places.c.runner == runner))
        held = and_(jobs.c.claimed_by == runner, jobs.c.status == "in_progress")
        again = and_(held, jobs.c.attempts < MOST_ATTEMPTS)
        self._change(again, {"status": "queued", "claimed_by": None, "due": time.time()})
        query = select(jobs.c.id).where(held, jobs.c.attempts >= MOST_ATTEMPTS)
        with self._engine.connect() as connection:
            lost = connection.execute(query).scalars().all()
        return [
            job_id
            for job_id in lost
            if self._end(_held(job_id, runner), "failed", _without_files(INTERRUPTED))
        ]

    def unended(self) -> dict[str, int]:
        """How many jobs of each owner have not ended."""
        query = (
            select(jobs.c.owner, func.count().label("unended"))
            .where(jobs.c.status.in_(UNENDED))
            .group_by(jobs.c.owner)
        )
        with self._engine.connect() as connection:
            return {row.owner: row.unended for row in connection.execute(query)}

    def bytes(self, *, unended: bool = False) -> int:
        """That all jobs take, or those that have not ended."""
        with self._engine.connect() as connection:
            return _bytes(connection, unended)

    def removable(self, *, expired: bool) -> list[tuple[str, int]]:
        """Ids and bytes of jobs that have ended, those that end first come first: of those whose
        lifetime is over, or of all. At most a hundred."""
        query = select(jobs.c.id, jobs.c.bytes).where(jobs.c.status.not_in(UNENDED))
        if expired:
            query = query.where(jobs.c.expires <= time.time())
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(jobs.c.ended, jobs.c.number).limit(100))
            return [(job_id, size) for job_id, size in rows]

    def _check_room(self, connection: Connection, new: NewJob) -> None:
        if _bytes(connection, unended=True) + taken(new) > self._unended_bytes:
            raise QueueFullError("the store is full of jobs that are not done", FULL_SECONDS)

    def _change(self, where: Any, values: Mapping[str, Any]) -> bool:
        with changing(self._engine) as connection:
            return connection.execute(update(jobs).where(where).values(values)).rowcount > 0

    def _end(self, where: Any, status: Status, values: Mapping[str, Any]) -> bool:
        """End one job, and note in the same moment what its owner's webhook is to be told."""
        now = time.time()
        change = (
            update(jobs)
            .where(where)
            .values({**values, "status": status, "ended": now, "expires": now + self._lifetime})
        )
        with changing(self._engine) as connection:
            row = connection.execute(change.returning(jobs.c.id, jobs.c.owner)).one_or_none()
            if row is None:
                return False
            hook = select(webhooks.c.owner).where(webhooks.c.owner == row.owner)
            if connection.execute(hook).one_or_none() is not None:
                body = {
                    "type": f"job.{status}",
                    "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
                    "data": {"id": row.id},
                }
                connection.execute(
                    insert(deliveries).values(
                        id=f"msg_{secrets.token_hex(12)}",
                        owner=row.owner,
                        body=json.dumps(body),
                        due=now,
                        attempts=0,
                    )
                )
        return True


def taken(new: NewJob) -> int:
    """The bytes that a job takes until it ends."""
    return ROW_BYTES + len(json.dumps(new.form)) + sum(map(len, new.uploads.values()))


def _bytes(connection: Connection, unended: bool) -> int:
    query = select(func.coalesce(func.sum(jobs.c.bytes), 0))
    if unended:
        query = query.where(jobs.c.status.in_(UNENDED))
    return int(connection.execute(query).scalar_one())


def not_found(job_id: str) -> NotFoundError:
    """The error for a job that is not there, or not for who asks."""
    return NotFoundError(f"there is no job {job_id[:64]!r}", "job")


def _held(job_id: str, runner: str) -> Any:
    """That the runner has the job."""
    in_progress = jobs.c.status == "in_progress"
    return and_(jobs.c.id == job_id, in_progress, jobs.c.claimed_by == runner)


def _without_files(fault: Fault | None) -> dict[str, Any]:
    text = None if fault is None else json.dumps(asdict(fault))
    return {"fault": text, "bytes": ROW_BYTES + func.length(jobs.c.form)}


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    values["form"] = json.loads(row.form)
    values["fault"] = None if row.fault is None else Fault(**json.loads(row.fault))
    values["answer"] = None if row.answer is None else json.loads(row.answer)
    values["files"] = tuple(FileNote(**note) for note in json.loads(row.files))
    return Job(**values)
