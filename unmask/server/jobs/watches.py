"""Who waits for a job to change."""

import asyncio
from collections import defaultdict
from contextlib import suppress

LOOK_SECONDS = 1.0  # other processes tell nobody here


class Watches:
    """Tells those who wait, in one event loop."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, job_id: str) -> None:
        """A job has changed."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    async def change(self, job_id: str, seconds: float = LOOK_SECONDS) -> None:
        """Return when a job may have changed: after so many seconds at the latest."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
