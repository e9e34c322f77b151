"""Places: how many drawings each sender has on their way at once, jobs among them."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from sqlalchemy import delete, func, insert, select
from starlette.concurrency import run_in_threadpool

from unmask.errors import UnavailableError
from unmask.server.jobs.job import UNENDED
from unmask.server.state.database import alone, changing
from unmask.server.state.state import State
from unmask.server.state.tables import jobs, places

log = logging.getLogger(__name__)
T = TypeVar("T")

UNBOUNDED = ""  # the place of who needs none


class Places(Protocol):
    """Counts drawings at once. Called from one event loop."""

    async def take(self, name: str, most: int) -> str | None:
        """A place of a sender, by the name it is given back by; None if there are ``most``; 0 is no
        bound."""
        ...

    async def give_back(self, place: str) -> None:
        """Count one less."""
        ...

    def count_jobs(self, counts: Mapping[str, int]) -> None:
        """So many jobs of each sender have not ended; each is a drawing at once, beside those that
        are waited for."""
        ...

    async def close(self) -> None:
        """Return when all that was given back is, as far as it can be now."""
        ...


class MemoryPlaces:
    """The places of one process; jobs are those that it was told of."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._jobs: Mapping[str, int] = {}

    async def take(self, name: str, most: int) -> str | None:
        if most and self._taken[name] + self._jobs.get(name, 0) >= most:
            return None
        self._taken[name] += 1
        return name

    async def give_back(self, place: str) -> None:
        self._taken[place] -= 1
        if not self._taken[place]:
            del self._taken[place]

    def count_jobs(self, counts: Mapping[str, int]) -> None:
        self._jobs = counts

    async def close(self) -> None:
        """Nothing: what is given back is so at once."""


class DatabasePlaces:
    """The places of all who share a database: a row each. What a killed process held is free when
    its jobs are taken up. UnavailableError where a place cannot be taken now."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._left: set[str] = set()  # given back, and still there
        self._tasks: set[asyncio.Task[Any]] = set()

    async def take(self, name: str, most: int) -> str | None:
        if not most:
            return UNBOUNDED
        if self._left:
            await self._leave()
        place = uuid.uuid4().hex
        taking = self._kept(run_in_threadpool(self._take, place, name, most))
        try:
            return place if await asyncio.shield(taking) else None
        except asyncio.CancelledError:  # the thread goes on, and may take it yet
            taking.add_done_callback(lambda _: self._begin_to_leave(place))
            raise

    async def give_back(self, place: str) -> None:
        if place != UNBOUNDED:
            await asyncio.shield(self._begin_to_leave(place))  # also for who hangs up

    def count_jobs(self, counts: Mapping[str, int]) -> None:
        """Nothing: the database knows them as they are."""

    async def close(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _begin_to_leave(self, place: str) -> "asyncio.Task[None]":
        self._left.add(place)
        return self._kept(self._leave())

    def _kept(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Work that goes on if nobody waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _leave(self) -> None:
        """Remove the rows of what was given back; what cannot be removed now is later."""
        left = set(self._left)
        try:
            await run_in_threadpool(self._remove, left)
        except UnavailableError:
            log.warning("%d places are given back later", len(left))
        else:
            self._left -= left

    def _take(self, place: str, name: str, most: int) -> bool:
        state = self._state.open()
        taken = select(func.count()).where(places.c.owner == name).scalar_subquery()
        unended = select(func.count()).where(jobs.c.owner == name, jobs.c.status.in_(UNENDED))
        with changing(state.engine) as connection:
            alone(connection, f"places of {name}")
            there = connection.execute(select(taken + unended.scalar_subquery())).scalar_one()
            if there >= most:
                return False
            row = {"id": place, "owner": name, "runner": state.presence.runner}
            connection.execute(insert(places).values(row))
        return True

    def _remove(self, left: set[str]) -> None:
        with changing(self._state.open().engine) as connection:
            connection.execute(delete(places).where(places.c.id.in_(left)))
