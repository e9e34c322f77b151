"""Keys in the database, for several servers that share it."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Hashable, Sequence

from sqlalchemy import Engine, insert, select, update
from starlette.concurrency import run_in_threadpool

from unmask.server.keys.limits import Limits
from unmask.server.keys.store import Key, check_free, check_known, new_key
from unmask.server.state.database import VARIABLE, alone, changing
from unmask.server.state.tables import keys

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 1.0
PURPOSE = "keys"


class KeyTable:
    """All keys. Its methods block, and raise UnavailableError if the database cannot be reached."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine

    def read(self) -> tuple[Key, ...]:
        """Those that were not revoked, the oldest first."""
        return tuple(key for key, revoked in self.all() if not revoked)

    def look(self) -> Hashable | None:
        """What is another after each change; None if there never was a key."""
        return tuple((key.sha256, revoked) for key, revoked in self.all()) or None

    def all(self) -> list[tuple[Key, bool]]:
        """All that ever were, the oldest first, and whether each was revoked."""
        query = select(keys).order_by(keys.c.created, keys.c.name)
        with self._open().connect() as connection:
            rows = connection.execute(query).all()
        return [
            (
                Key(
                    name=row.name,
                    sha256=row.sha256,
                    scopes=frozenset(json.loads(row.scopes)),
                    limits=Limits.model_validate_json(row.limits),
                    created=row.created,
                ),
                row.revoked is not None,
            )
            for row in rows
        ]

    def add(self, name: str, scopes: Sequence[str], limits: Limits) -> str:
        """A new key, which nobody can find out again. ConfigError as of ``KeyFile.add``."""
        text, key = new_key(name, scopes, limits)
        row = {
            "sha256": key.sha256,
            "name": name,
            "scopes": json.dumps(sorted(key.scopes)),
            "limits": limits.model_dump_json(exclude_none=True),
            "created": key.created,
        }
        with changing(self._open()) as connection:
            alone(connection, PURPOSE)
            names = select(keys.c.name).where(keys.c.revoked.is_(None))
            check_free(name, connection.execute(names).scalars().all())
            connection.execute(insert(keys).values(row))
        return text

    def revoke(self, name: str) -> None:
        """Let nobody in with a key any more; ConfigError if there is none of this name."""
        with changing(self._open()) as connection:
            alone(connection, PURPOSE)
            names = select(keys.c.name).where(keys.c.revoked.is_(None))
            check_known(name, connection.execute(names).scalars().all())
            valid = (keys.c.name == name, keys.c.revoked.is_(None))
            connection.execute(update(keys).where(*valid).values(revoked=time.time()))


class FollowedKeys:
    """The keys of a table as they were a second ago, for a KeyRing: a request waits for no query.
    While the database cannot be reached they stay as they are."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._all = table.all()

    def look(self) -> Hashable | None:
        return tuple((key.sha256, revoked) for key, revoked in self._all) or None

    def read(self) -> tuple[Key, ...]:
        return tuple(key for key, revoked in self._all if not revoked)

    async def follow(self) -> None:
        """Look for changes, for ever."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                self._all = await run_in_threadpool(self._table.all)
            except Exception:
                log.exception("the keys stay as they were")

    def __str__(self) -> str:
        return VARIABLE
