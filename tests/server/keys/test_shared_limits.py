"""Limits that several servers count together, in one database."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from tests.worlds.jobs import job_store, new_job
from unmask.errors import LimitError
from unmask.server.keys.limits import Limiter, Limits
from unmask.server.keys.places import DatabasePlaces
from unmask.server.keys.storage import CLEAN_SECONDS, DatabaseStorage
from unmask.server.state.state import State
from unmask.server.state.tables import windows

pytestmark = pytest.mark.anyio
OpenState = Callable[[], State]


def limiter_of(state: State) -> Limiter:
    return Limiter(DatabaseStorage(state), DatabasePlaces(state))


def burst(open_state: OpenState, threads: int, limits: Limits, *, each: int) -> Counter[bool]:
    """Who was let through, of those that ask at once in as many event loops."""
    heard = Counter[bool]()
    together = threading.Barrier(threads)

    async def ask(limiter: Limiter) -> None:
        for _ in range(each):
            try:
                await limiter.spend("ann", limits, "requests")
                heard[True] += 1
            except LimitError:
                heard[False] += 1

    def run(limiter: Limiter) -> None:
        together.wait()
        asyncio.run(ask(limiter))

    limiters = [limiter_of(open_state()) for _ in range(threads)]
    running = [threading.Thread(target=run, args=(limiter,)) for limiter in limiters]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return heard


def test_however_many_ask_at_once_no_more_than_the_bound_get_through(
    open_state: OpenState,
) -> None:
    heard = burst(open_state, 6, Limits(requests_per_day=17), each=5)
    assert heard == {True: 17, False: 13}


def test_what_one_window_refuses_is_not_counted_by_another(open_state: OpenState) -> None:
    limits = Limits(requests_per_minute=8, requests_per_day=8)
    assert burst(open_state, 4, limits, each=4)[True] == 8
    storage = DatabaseStorage(open_state())
    for window in limits.windows("requests"):
        key = window.key_for("requests", "ann")
        assert asyncio.run(storage.get_sliding_window(key, window.get_expiry()))[2] == 8


async def test_windows_that_are_over_are_removed(
    open_state: OpenState, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, now = open_state(), 1_000 * 86_400.0
    monkeypatch.setattr(time, "time", lambda: now)
    limiter, limits = limiter_of(state), Limits(requests_per_minute=5)
    for name in ("ann", "bob"):
        await limiter.spend(name, limits, "requests")
    now += 120 + CLEAN_SECONDS
    await limiter.spend("ann", limits, "requests")
    with state.open().engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(windows)).scalar_one() == 1


async def test_the_librarys_interface_counts_up_and_down(
    open_state: OpenState, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, now = DatabaseStorage(open_state()), 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    assert [await storage.incr("k", 10, 3), await storage.incr("k", 10)] == [3, 4]
    assert (await storage.get("k"), await storage.get_expiry("k")) == (4, 1010)
    assert [await storage.decr("k", 3), await storage.decr("k", 3)] == [1, 0]
    now += 11
    assert (await storage.get("k"), await storage.incr("k", 10)) == (0, 1)
    await storage.clear("k")
    assert await storage.get("k") == 0
    await storage.incr("l", 10)
    assert await storage.check()
    assert await storage.reset() == 1


async def test_places_are_those_of_all_servers_and_of_jobs(open_state: OpenState) -> None:
    first, second = open_state(), open_state()
    here, there, limits = limiter_of(first), limiter_of(second), Limits(jobs_at_once=3)
    store = job_store(first.open().engine)
    place = await here.enter("ann", limits)
    await there.enter("ann", limits)
    store.add(new_job(), "job_1")
    for limiter in (here, there):
        with pytest.raises(LimitError, match="at once: you may have 3"):
            await limiter.enter("ann", limits)
    await there.enter("bob", limits)
    store.cancel("job_1")
    await here.enter("ann", limits)
    await here.leave(place)
    await there.enter("ann", limits)


async def test_places_of_a_server_that_is_gone_are_free(open_state: OpenState) -> None:
    gone, here = open_state(), open_state()
    limits = Limits(jobs_at_once=1)
    await limiter_of(gone).enter("ann", limits)
    runner = gone.open().presence.runner
    store = job_store(here.open().engine)
    assert store.runners() == {runner}
    with pytest.raises(LimitError):
        await limiter_of(here).enter("ann", limits)
    gone.close()
    assert here.open().presence.is_gone(runner)
    store.recover(runner)
    await limiter_of(here).enter("ann", limits)


async def test_who_hangs_up_while_a_place_is_taken_holds_none(open_state: OpenState) -> None:
    places, limits = DatabasePlaces(open_state()), Limits(jobs_at_once=1)
    limiter = Limiter(places=places)
    for _ in range(3):
        asking = asyncio.create_task(limiter.enter("ann", limits))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    await places.close()
    assert await limiter.enter("ann", limits)
