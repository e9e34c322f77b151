"""The state of one server: opened when it is first needed, closed at its end."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import Engine

from unmask.errors import ConfigError, UnavailableError
from unmask.server.state import presence
from unmask.server.state.database import FILE_NAME, cause, open_folder, open_url
from unmask.server.state.presence import (
    FilePresence,
    LeasePresence,
    Presence,
)
from unmask.settings import Settings

log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0  # at the start, for what is elsewhere
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class OpenedState:
    """A database whose tables are as they must be, and who lives."""

    engine: Engine
    presence: Presence


class State:
    """What the settings say about where state is. A folder that holds none yet is not touched until
    it is opened."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._opened: OpenedState | None = None
        self._ended = False

    @property
    def is_there(self) -> bool:
        """Whether there may be something to go on with."""
        folder = self._settings.state_folder
        shared = self._settings.database is not None or self._settings.limits_are_shared
        return shared or (folder / FILE_NAME).exists()

    def open(self) -> OpenedState:
        """The state; its tables are made or taken forward if need be. Blocks. ConfigError,
        UnavailableError."""
        with self._opening:
            if self._ended:
                raise UnavailableError("the server has stopped")
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def let_go(self) -> None:
        """Close what is open, until it is needed again; others take up what is left."""
        with self._opening:
            if self._opened is not None:
                self._opened.presence.close()
                self._opened.engine.dispose()
                self._opened = None

    def close(self) -> None:
        """Let go of it for good: a thread that is late must not open it again."""
        self._ended = True
        self.let_go()

    def _open(self) -> OpenedState:
        folder, database = self._settings.state_folder, self._settings.database
        with ExitStack() as undo:
            engine = open_url(database.get_secret_value()) if database else open_folder(folder)
            undo.callback(engine.dispose)
            sign: Presence = (
                LeasePresence(engine, presence.LEASE_SECONDS)
                if database
                else FilePresence(folder / "runners")
            )
            undo.pop_all()
        return OpenedState(engine, sign)


def wait_for(variable: str, reach: Callable[[], object]) -> None:
    """Return once what a variable names can be reached; ConfigError if it cannot be for half a
    minute. ``reach`` raises UnavailableError or OSError as long as it cannot be."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            reach()
            return
        except (UnavailableError, OSError) as error:
            if time.monotonic() > end:
                told = f"{variable}: it cannot be reached for {WAIT_SECONDS:g} s: {cause(error)}"
                raise ConfigError(told) from None
            log.warning("waiting for what %s names", variable)
        time.sleep(LOOK_SECONDS)
