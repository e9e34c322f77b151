"""The door: who a request is from, whether it may come in, and how much it may have drawn.

It stands before the routes, so none of them can forget to ask. A request that goes through carries
its Sender and its Meter.
"""

import asyncio
import base64
import binascii
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.errors import LimitError
from unmask.server.http.errors import error_body, error_response
from unmask.server.keys import senders
from unmask.server.keys.limits import Limiter, Limits, Meter
from unmask.server.keys.senders import SCOPES, Sender, address_name, is_beyond
from unmask.server.keys.store import KeyRing

WRONG = "invalid_api_key"
PROBES = ("/livez", "/readyz")
PAGE = re.compile(r"/|/studio/[^/]*")  # it holds no secret, and must be there to ask for a key
# What counts as a drawing: asking how far it is, or to stop it, is never refused for its number.
DRAWINGS = re.compile(r"/v1/(images|videos)(/.*)?|/sdapi/v1/(txt2img|img2img)")


FREE_GUESSES = Limits(requests_per_minute=20)  # of keys, from an address, that cost it no time
GUESS_SECONDS = 1.0  # that each costs after them
MOST_HELD = 64  # of those that wait, for they keep their connections


class Refusal(Exception):
    """A request that does not come in, and the status and code that it is told."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Door:
    """ASGI middleware. ``scope["state"]`` gets ``sender`` and ``meter``."""

    def __init__(self, app: ASGIApp, ring: KeyRing, defaults: Limits, insecure: bool) -> None:
        """``defaults`` bound whoever has no limits of his own; ``insecure``: it was decided that
        no key is needed beyond this machine while there is none."""
        self.app, self.ring, self.defaults, self.insecure = app, ring, defaults, insecure
        self.limiter = Limiter()
        self._guesses, self._held = Limiter(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in PROBES or PAGE.fullmatch(path):
            await self.app(scope, receive, send)
            return
        try:
            sender = self._admit(scope, path)
        except Refusal as refusal:
            if refusal.code == WRONG:
                await self._hold(scope)
            scheme = 'Basic realm="unmask"' if path.startswith("/sdapi/") else "Bearer"
            headers = {"www-authenticate": scheme} if refusal.status == 401 else None
            answer = error_response(refusal.status, str(refusal), refusal.code, headers=headers)
            await answer(scope, receive, send)
            return
        meter = Meter(self.limiter, sender.name, sender.limits)
        scope.setdefault("state", {}).update(sender=sender, meter=meter)

        async def send_standing(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(await meter.headers())
            await send(message)

        try:
            if scope["method"] == "POST" and DRAWINGS.fullmatch(path):
                await meter.open()
            await self.app(scope, receive, send_standing)
        except LimitError as error:  # of the meter: what routes raise is answered within the app
            await error_body(error)(scope, receive, send_standing)
        finally:
            meter.close()

    def _admit(self, scope: Scope, path: str) -> Sender:
        """The sender, if it may ask for this; else Refusal."""
        address = _address(scope)
        if not self._needs_key(scope):
            return Sender(address_name(address), frozenset(SCOPES), address, self.defaults)
        text = _given_key(Headers(scope=scope).get("authorization", ""), path)
        if not text:
            message = "a key is needed: send the header Authorization: Bearer KEY"
            raise Refusal(401, message, "missing_api_key")
        key = self.ring.find(text)
        if key is None:
            raise Refusal(401, "the key is wrong, or was revoked", WRONG)
        sender = Sender(key.name, key.scopes, address, key.limits.over(self.defaults))
        needed: senders.Scope = "metrics" if path == "/metrics" else "draw"
        if not sender.may(needed):
            held = ", ".join(sorted(key.scopes))
            message = f"this needs a key of scope {needed!r}, and yours has: {held}"
            raise Refusal(403, message, "insufficient_permissions")
        return sender

    async def _hold(self, scope: Scope) -> None:
        """Let whoever guesses keys wait, so that it cannot take the time of others by doing so. The
        right key is answered at once, whatever came from its address before."""
        try:
            await self._guesses.spend(address_name(_address(scope)), FREE_GUESSES, "requests")
        except LimitError:
            if self._held < MOST_HELD:
                self._held += 1
                try:
                    await asyncio.sleep(GUESS_SECONDS)
                finally:
                    self._held -= 1

    def _needs_key(self, scope: Scope) -> bool:
        """Also if another server than ours listens where no setting tells."""
        if self.ring.needed:
            return True
        host = (scope.get("server") or ("",))[0]  # a name: of a socket file, or of a test
        return not self.insecure and is_beyond(host, if_named=False)


def _address(scope: Scope) -> str:
    host: str = scope["client"][0] if scope.get("client") else ""
    return host


def sender_of(request: Request) -> Sender:
    """Who a request is from."""
    sender: Sender = request.scope["state"]["sender"]
    return sender


def meter_of(request: Request) -> Meter:
    """What a request has used."""
    meter: Meter = request.scope["state"]["meter"]
    return meter


def _given_key(authorization: str, path: str) -> str:
    """The key in a header; empty if there is none. Clients of /sdapi know names and passwords only,
    and there the password is the key."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic" and path.startswith("/sdapi/"):
        try:
            decoded = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return ""
