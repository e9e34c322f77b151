"""The process that serves: its sockets, its signals, and how it stops."""

import asyncio
import contextlib
import faulthandler
import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from unmask.server.engine.engine import Engine
from unmask.server.http.app import create_app, make_engine
from unmask.server.http.connections import Config
from unmask.server.http.doorstep import BACKLOG, Doorstep
from unmask.server.http.edge import Uploads
from unmask.server.telemetry.log import configure_log
from unmask.settings import Settings

log = logging.getLogger(__name__)

OTHER_DESCRIPTORS = 64  # for files, pipes and listening sockets
FLUSH_SECONDS = 1.0  # of the grace, for the last answers to be written


class Server(uvicorn.Server):
    """A server of one engine.

    On SIGTERM, SIGINT or SIGHUP it becomes unready first, refuses what is new after a delay, lets
    running requests end, fails those that do not with 503 (streams: an ``error`` event), and is
    gone when the grace is over at the latest. A second signal ends the grace.
    """

    def __init__(
        self, settings: Settings, engine: Engine | None = None, doorstep: Doorstep | None = None
    ) -> None:
        self.settings, self.doorstep = settings, doorstep
        self.engine = engine or make_engine(settings)
        self.uploads = Uploads(settings.read_timeout_seconds)
        app = create_app(settings, self.engine, self.uploads)
        config = Config(
            app,
            max_connections=_usable_connections(settings.max_connections),
            read_seconds=settings.read_timeout_seconds,
            host=settings.host,
            port=settings.port,
            backlog=BACKLOG,
            uds=settings.unix_socket,
            log_config=None,
            access_log=False,  # it would tell query strings, and no times
            log_level=settings.log_level,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies,
        )
        super().__init__(config)
        self.exit_signal: int | None = None  # the first that it was told to stop by
        self._hurry: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def bound_port(self) -> int:
        """The port that a started server listens on."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the engine and listen."""
        self._loop, self._hurry = asyncio.get_running_loop(), asyncio.Event()
        if sockets is not None and self.doorstep is not None:
            self.doorstep.leave()
        await super().startup(sockets)
        if sockets is not None:
            self._log_started_message(sockets)  # which uvicorn leaves to who gave the sockets

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as the class says."""
        assert self._loop is not None
        log.info("stopping: requests may end within %d s", self.settings.shutdown_timeout_seconds)
        end = self._loop.time() + self.settings.shutdown_timeout_seconds
        self.engine.leave()
        delay = asyncio.create_task(asyncio.sleep(self.settings.shutdown_delay_seconds))
        await self._wait({delay}, end)
        delay.cancel()
        self.engine.refuse()
        self.uploads.close()
        # New ones are answered too, but nobody waits for them: they are refused at once.
        if running := set(self.server_state.tasks):
            await self._wait(running, end - FLUSH_SECONDS)
        stopping = asyncio.create_task(self.engine.stop())
        for server in self.servers:
            server.close()
        if running := set(self.server_state.tasks):
            await asyncio.wait(running, timeout=FLUSH_SECONDS / 2)
        if running := set(self.server_state.tasks):
            log.error("%d requests did not end: cancelling them", len(running))
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=FLUSH_SECONDS / 2)
        for connection in list(self.server_state.connections):
            connection.transport.close()  # when all is sent that was written
        flushed = self._loop.time() + FLUSH_SECONDS / 2
        while self.server_state.connections and self._loop.time() < flushed:
            await asyncio.sleep(0.01)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.settings.unix_socket is not None:
            Path(self.settings.unix_socket).unlink(missing_ok=True)
        await stopping
        await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: object) -> None:
        """Begin to stop; the second time, stop now."""
        if self.should_exit and self._loop is not None and self._hurry is not None:
            self._loop.call_soon_threadsafe(self._hurry.set)
        self.should_exit = True
        self.exit_signal = self.exit_signal or sig

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear the signals that end a server; SIGUSR1 shows what all threads do."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            heard.append(signal.SIGHUP)
        before = {number: signal.signal(number, self.handle_exit) for number in heard}
        faulthandler.register(signal.SIGUSR1)
        try:
            yield
        finally:
            faulthandler.unregister(signal.SIGUSR1)
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _wait(self, tasks: "set[asyncio.Task[None]]", until: float) -> None:
        """Wait for all of the tasks, but not beyond a time of the loop, nor when a second signal
        has come."""
        assert self._hurry is not None
        assert self._loop is not None
        waits = [asyncio.create_task(self._hurry.wait()), asyncio.create_task(asyncio.wait(tasks))]
        seconds = max(0.0, until - self._loop.time())
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


def serve(settings: Settings, doorstep: Doorstep | None = None) -> int | None:
    """Serve until a signal comes, and return which; None if the server could not start. A thread of
    the engine may still be at work: end the process without the interpreter's help.

    With a ``doorstep`` it takes over the sockets at which that one answers."""
    configure_log(settings)
    server = Server(settings, doorstep=doorstep)
    server.run(None if doorstep is None else doorstep.sockets)
    return server.exit_signal if server.started else None


def _usable_connections(wanted: int) -> int:
    """So many connections as this process may have descriptors for, raised as far as allowed."""
    needed = wanted + BACKLOG + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - BACKLOG - OTHER_DESCRIPTORS))
