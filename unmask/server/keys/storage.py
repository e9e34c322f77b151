"""What was used of limits, in the database: so all who share it count together.

The interface is that of the library ``limits``. A window is a row, counted up by one statement that
looks at the bound too: so however many ask at once, no more than the bound get through.
"""

import math
import time
from typing import Literal

from limits.aio.storage import SlidingWindowCounterSupport, Storage
from limits.storage.base import TimestampedSlidingWindow
from sqlalchemy import Connection, case, delete, select, update
from starlette.concurrency import run_in_threadpool

from unmask.server.state.database import changing, upsert
from unmask.server.state.state import State
from unmask.server.state.tables import windows

CLEAN_SECONDS = 60.0  # between two removals of what has expired


class DatabaseStorage(Storage, SlidingWindowCounterSupport, TimestampedSlidingWindow):
    """Windows in a database. Its methods raise UnavailableError if that cannot be reached."""

    STORAGE_SCHEME = ["async+unmask"]  # noqa: RUF012  # as the library has it

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state
        self._cleaned = 0.0

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """Those that the library may wrap; none is."""
        return ()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count up, and the count."""
        return await run_in_threadpool(self._add, key, expiry, amount, None) or 0

    async def decr(self, key: str, amount: int = 1) -> int:
        """Count down, not below 0, and the count."""
        return await run_in_threadpool(self._take_back, key, amount)

    async def get(self, key: str) -> int:
        """The count of a window; 0 if there is none."""
        return (await run_in_threadpool(self._read, key)).get(key, (0, 0.0))[0]

    async def get_expiry(self, key: str) -> float:
        """When a window ends, in seconds since 1970; now if there is none."""
        return (await run_in_threadpool(self._read, key)).get(key, (0, time.time()))[1]

    async def check(self) -> Literal[True]:
        """That the database can be reached; else UnavailableError."""
        await run_in_threadpool(self._read, "")
        return True

    async def reset(self) -> int | None:
        """Forget all windows; how many there were."""
        return await run_in_threadpool(self._forget, None)

    async def clear(self, key: str) -> None:
        """Forget a window."""
        await run_in_threadpool(self._forget, key)

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count up if there is room beside what of the last window is still within reach."""
        now = time.time()
        previous, current = self.sliding_window_keys(key, expiry, now)
        return await run_in_threadpool(self._acquire, previous, current, limit, expiry, amount, now)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Of the last window and of the current one: the count, and for how many seconds it counts
        yet."""
        now = time.time()
        previous, current = self.sliding_window_keys(key, expiry, now)
        found = await run_in_threadpool(self._read, previous, current)
        (last, _), (count, _) = found.get(previous, (0, 0.0)), found.get(current, (0, 0.0))
        left = expiry - now % expiry
        return last, left if last else 0.0, count, left + expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget both windows."""
        for window in self.sliding_window_keys(key, expiry, time.time()):
            await self.clear(window)

    def _read(self, *keys: str) -> dict[str, tuple[int, float]]:
        with self._state.open().engine.connect() as connection:
            return self._counts(connection, *keys)

    def _counts(self, connection: Connection, *keys: str) -> dict[str, tuple[int, float]]:
        query = select(windows).where(windows.c.key.in_(keys), windows.c.expires > time.time())
        return {row.key: (row.used, row.expires) for row in connection.execute(query)}

    def _acquire(
        self, previous: str, current: str, limit: int, expiry: int, amount: int, now: float
    ) -> bool:
        last, _ = self._read(previous).get(previous, (0, 0.0))
        room = limit - math.floor(last * (expiry - now % expiry) / expiry)
        return self._add(current, 2 * expiry, amount, room) is not None

    def _add(self, key: str, expiry: float, amount: int, room: int | None) -> int | None:
        """The count of a window with the amount; None, and nothing done, if it were above room."""
        if room is not None and amount > room:
            return None
        now = time.time()
        kept = case((windows.c.expires > now, windows.c.used), else_=0)
        expires = case((windows.c.expires > now, windows.c.expires), else_=now + expiry)
        row = {"key": key, "used": amount, "expires": now + expiry}
        fits = None if room is None else kept + amount <= room
        with changing(self._state.open().engine) as connection:
            if now - self._cleaned > CLEAN_SECONDS:
                self._cleaned = now
                connection.execute(delete(windows).where(windows.c.expires <= now))
            changes = {"used": kept + amount, "expires": expires}
            if not upsert(connection, windows, row, changes, where=fits):
                return None
            return self._counts(connection, key).get(key, (0, 0.0))[0]

    def _take_back(self, key: str, amount: int) -> int:
        left = case((windows.c.used > amount, windows.c.used - amount), else_=0)
        change = update(windows).where(windows.c.key == key).values(used=left)
        with changing(self._state.open().engine) as connection:
            connection.execute(change)
            return self._counts(connection, key).get(key, (0, 0.0))[0]

    def _forget(self, key: str | None) -> int:
        query = delete(windows) if key is None else delete(windows).where(windows.c.key == key)
        with changing(self._state.open().engine) as connection:
            return connection.execute(query).rowcount
