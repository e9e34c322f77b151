"""Who is alive.

On one machine a runner holds a lock on a file of its own, which the system frees when the process
ends, however that happens: so the others know at once that it is gone. Between machines it renews a
lease in the database: who has not done so for a while is taken for gone, and if it lives after all,
it finds that what it had is another's.
"""

import fcntl
import logging
import os
import threading
import uuid
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, delete, select

from unmask.errors import UnavailableError
from unmask.server.state.database import changing, clock, upsert
from unmask.server.state.tables import runners

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
RENEWALS = 5  # so many within a lease


class Presence(Protocol):
    """The sign that this runner lives, and those of the others."""

    runner: str

    def is_gone(self, runner: str) -> bool:
        """Whether another runner lives no more; then its sign is taken away."""
        ...

    def clear(self) -> None:
        """Take away what others left who are gone."""
        ...

    def close(self) -> None:
        """Live no more."""
        ...


class FilePresence:
    """Signs for the processes of one machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.runner = uuid.uuid4().hex
        self._folder, self._path = folder, folder / self.runner
        while True:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError:  # a file system may have no locks
                self.close()
                raise
            if self._path.exists():
                break
            os.close(self._file)  # before it was locked, another took it for a dead one's

    def is_gone(self, runner: str) -> bool:
        path = self._folder / runner
        if runner == self.runner:
            return False
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(file)

    def clear(self) -> None:
        for path in self._folder.iterdir():
            self.is_gone(path.name)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)


class LeasePresence:
    """Signs for those who share a database, wherever they run."""

    def __init__(self, engine: Engine, lease_seconds: float = LEASE_SECONDS) -> None:
        """A thread of its own renews the lease, so that no other work delays it."""
        self.runner = uuid.uuid4().hex
        self._engine, self._lease = engine, lease_seconds
        self._closing = threading.Event()
        self._renew()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def is_gone(self, runner: str) -> bool:
        if runner == self.runner:
            return False
        with changing(self._engine) as connection:
            self._end(connection)
            query = select(runners.c.id).where(runners.c.id == runner)
            return connection.execute(query).one_or_none() is None

    def clear(self) -> None:
        with changing(self._engine) as connection:
            self._end(connection)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        try:
            with changing(self._engine) as connection:
                connection.execute(delete(runners).where(runners.c.id == self.runner))
        except UnavailableError:
            log.warning("the lease could not be given back: it ends by itself")

    def _end(self, connection: Connection) -> None:
        """End the leases of those who are gone."""
        over = runners.c.seen < clock(connection) - self._lease
        connection.execute(delete(runners).where(over, runners.c.id != self.runner))

    def _renew(self) -> None:
        with changing(self._engine) as connection:
            now = clock(connection)
            upsert(connection, runners, {"id": self.runner, "seen": now}, {"seen": now})

    def _keep(self) -> None:
        while not self._closing.wait(self._lease / RENEWALS):
            try:
                self._renew()
            except UnavailableError:
                log.warning("the lease could not be renewed")
            except Exception:
                log.exception("the lease could not be renewed")
