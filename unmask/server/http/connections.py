"""Connections: what uvicorn lacks against those that are silent, slow, or many.

uvicorn stays, for all of it fits into its own hooks: its h11 parser is strict but for one rule, of
length beside transfer encoding, which the edge adds.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from unmask.server.http.errors import raw_error

HELD = "held"  # in the state of a request's scope: its answer waits, as it asks too often
WRITE_SECONDS = 30.0  # a client that reads nothing for so long is cut off


class Config(uvicorn.Config):
    """uvicorn's configuration, and the bounds of its connections."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        max_connections: int,
        read_seconds: float,
        **options: Any,
    ) -> None:
        super().__init__(app, http=Connection, ws="none", lifespan="on", **options)
        self.max_connections, self.read_seconds = max_connections, read_seconds


class Connection(H11Protocol):
    """One connection. The head of a request must be complete in time, answers must be read, and
    when there are too many connections one that asks for nothing makes room for another: the one
    that was silent longest, of the sender that has most of them."""

    config: Config

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.heard_at = time.monotonic()
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def answering(self) -> bool:
        """Whether a request is complete and is being answered."""
        held = self._in_request and self.scope.get("state", {}).get(HELD, False)
        return self._in_request and not self.cycle.more_body and not held

    @property
    def sender(self) -> str:
        """The address at the other end."""
        return self.client[0] if self.client else ""

    @property
    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) <= self.config.max_connections:  # this one is among them
            return
        others = [
            connection
            for connection in self.connections
            if isinstance(connection, Connection)
            and connection is not self
            and not connection.transport.is_closing()
        ]
        if len(others) < self.config.max_connections:
            return
        waiting = [other for other in (*others, self) if not other.answering]
        held = Counter(other.sender for other in waiting)
        victim = max(waiting, key=lambda other: (held[other.sender], -other.heard_at))
        if victim is not self:
            victim.transport.abort()
        else:
            self._refuse(503, "the server has no room for more connections", "unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all timers."""
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self.heard_at = time.monotonic()
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn's own timer is for those that send nothing of it."""
        super().on_response_complete()
        self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the envelope."""
        self._refuse(400, "what came is no HTTP request that can be read", "bad_request")

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _expect_head(self) -> None:
        if self._in_request or self.transport.is_closing():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            seconds = self.config.read_seconds
            self._head_timer = self.loop.call_later(seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        begun = bool(self.conn.trailing_data[0])
        if not begun:
            self.transport.abort()
            return
        seconds = self.config.read_seconds
        self._refuse(408, f"the request did not come within {seconds:g} s", "request_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer in the envelope and close, if nothing else is being answered."""
        if self._in_request and self.cycle.response_started:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(raw_error(status, message, code))
            self.transport.close()
