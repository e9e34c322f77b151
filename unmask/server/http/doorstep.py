"""What answers while the server is put together behind it: importing torch alone takes a second.

Nothing is imported here that would take time itself.
"""

import asyncio
import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from unmask.errors import UnavailableError

BACKLOG = 64  # so many connections may be accepted before any of them is counted
RETRY_SECONDS = 1
SECONDS = 5  # that one connection may take
LARGEST_BODY = 1 << 20  # is read, so that its sender hears the answer
LIVE = (200, {"status": "live"})
STARTING = (
    503,
    {
        "error": {
            "message": "the server is starting",
            "type": "server_error",
            "param": None,
            "code": "unavailable",
        }
    },
)


async def listening(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen there; UnavailableError if none can."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    except OSError as error:
        # Of a failed bind asyncio's own words repeat the address; the system's do not.
        number = error.errno or 0  # that of an unknown host is below 0, and no error of the system
        reason = os.strerror(number) if number > 0 else error.strerror
        raise UnavailableError(
            f"cannot listen on {host}, port {port}: {reason}; choose others with --host and --port"
        ) from None
    sockets = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
    server.close()
    await server.wait_closed()
    for each in sockets:
        each.listen(BACKLOG)
    return sockets


class Doorstep:
    """Answers at listening sockets until the server takes them over: ``/livez`` that the process
    lives, all else that it is starting."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        self._listeners = [_Listener(listening) for listening in sockets]
        for listener in self._listeners:
            Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()

    def leave(self) -> None:
        """Take no more connections: who comes now waits for the server."""
        for listener in self._listeners:
            listener.shutdown()

    def close(self) -> None:
        """Listen no more, if there will be no server."""
        self.leave()
        for each in self.sockets:
            each.close()


class _Listener(ThreadingHTTPServer):
    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS

    def _answer(self) -> None:
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            self.rfile.read(min(int(length), LARGEST_BODY))
        status, content = LIVE if self.path == "/livez" else STARTING
        body = json.dumps(content).encode()
        self.send_response_only(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if status != 200:
            self.send_header("retry-after", str(RETRY_SECONDS))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

    def log_message(self, *_: object) -> None:
        """Nothing: the log is not there yet."""
