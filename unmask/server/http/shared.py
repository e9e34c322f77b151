"""What several servers may share, as the settings have it: state, keys and limits."""

import asyncio
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from unmask.errors import ConfigError
from unmask.server.jobs.remote_files import VARIABLE as STORE
from unmask.server.jobs.remote_files import open_files
from unmask.server.jobs.runner import begin_apart
from unmask.server.keys.limits import Limiter
from unmask.server.keys.places import DatabasePlaces, MemoryPlaces, Places
from unmask.server.keys.senders import is_beyond
from unmask.server.keys.storage import DatabaseStorage
from unmask.server.keys.store import KeyFile, KeyRing, KeySource
from unmask.server.keys.table import FollowedKeys, KeyTable
from unmask.server.state.database import VARIABLE as DATABASE
from unmask.server.state.state import State, wait_for
from unmask.settings import Settings


class Shared:
    """The state of one server, and what stands on it."""

    def __init__(self, settings: Settings) -> None:
        """Blocks until a shared database can be reached. ConfigError if it cannot be, and if keys
        are needed and there are none."""
        self.state = State(settings)
        self._followed: FollowedKeys | None = None
        if settings.database is not None:
            wait_for(DATABASE, self.state.open)
            self._followed = FollowedKeys(KeyTable(lambda: self.state.open().engine))
        if settings.store is not None:
            wait_for(STORE, open_files(settings).check)
        self.ring = make_ring(settings, self._followed or KeyFile(settings.state_folder))
        self.places: Places = MemoryPlaces()
        self.limiter = Limiter(places=self.places)
        if settings.limits_are_shared:
            self.places = DatabasePlaces(self.state)
            self.limiter = Limiter(DatabaseStorage(self.state), self.places)
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow what others change."""
        if self._followed is not None:
            self._following = begin_apart(self._followed.follow())

    async def stop(self) -> None:
        """Let go of all."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self.places.close()
        await run_in_threadpool(self.state.close)


def check_shared(settings: Settings) -> None:
    """What a server of these settings would wait for, and raise, before it starts."""
    asyncio.run(Shared(settings).stop())


def make_ring(settings: Settings, source: KeySource) -> KeyRing:
    """The keys of the server. ConfigError if it needs some and there are none."""
    secret = settings.api_key.get_secret_value() if settings.api_key else None
    ring = KeyRing(source, secret)
    beyond = settings.unix_socket is None and is_beyond(settings.host, if_named=True)
    if beyond and not ring.keys and not settings.insecure:
        raise ConfigError(
            f"host {settings.host!r} is reached from beyond this machine, and there are no keys: "
            "make one with unmask keys add NAME, or serve whoever asks with --insecure"
        )
    return ring
