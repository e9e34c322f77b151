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

from unmask.errors import LimitError, UnavailableError
from unmask.server.http.connections import HELD
from unmask.server.http.errors import error_body, error_response
from unmask.server.keys import senders
from unmask.server.keys.limits import Limiter, Limits, Meter
from unmask.server.keys.senders import SCOPES, Sender, address_name, is_beyond
from unmask.server.keys.store import KeyRing
from unmask.server.telemetry.accounts import account

WRONG = "invalid_api_key"
# What nobody needs a key for: the probes, the files of results, whose URLs nobody can guess, and
# the page, which holds no secret and must be there to ask for a key.
FREE = re.compile(r"/livez|/readyz|/v1/results/.*|/|/studio/[^/]*")
# Where a key may also come as a password: A1111's clients know no other way, nor does a browser
# that opens the document.
BY_PASSWORD = re.compile(r"/sdapi/.*|/docs(/.*)?|/openapi\.json")
# What counts as a drawing: asking how far it is, or to stop it, is never refused for its number.
DRAWINGS = re.compile(r"/v1/(images|videos)(/.*)?|/sdapi/v1/(txt2img|img2img)")


# Wrong keys from an address, and refusals by limits to a sender, that cost it no time. After them
# each answer waits, so that whoever asks at once again is not answered as fast as it can ask.
FREE_REFUSALS = Limits(requests_per_minute=20)
GUESS_SECONDS, LIMIT_SECONDS = 1.0, 10.0
LIMITED = 429


class Refusal(Exception):
    """A request that does not come in, and the status and code that it is told."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Door:
    """ASGI middleware. ``scope["state"]`` gets ``sender`` and ``meter``."""

    def __init__(
        self, app: ASGIApp, ring: KeyRing, limiter: Limiter, defaults: Limits, insecure: bool
    ) -> None:
        """``defaults`` bound whoever has no limits of his own; ``insecure``: it was decided that
        no key is needed beyond this machine while there is none."""
        self.app, self.ring, self.defaults, self.insecure = app, ring, defaults, insecure
        self.limiter = limiter
        self._refusals = Limiter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if FREE.fullmatch(path):
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        try:
            sender = self._admit(scope, path)
        except Refusal as refusal:
            if refusal.code == WRONG:
                await self._hold(scope, address_name(_address(scope)), GUESS_SECONDS)
            scheme = 'Basic realm="unmask"' if BY_PASSWORD.fullmatch(path) else "Bearer"
            headers = {"www-authenticate": scheme} if refusal.status == 401 else None
            answer = error_response(refusal.status, str(refusal), refusal.code, headers=headers)
            await answer(scope, receive, send)
            return
        account().key = sender.key
        meter = Meter(self.limiter, sender.name, sender.limits)
        scope["state"].update(sender=sender, meter=meter)

        async def send_standing(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == LIMITED:
                    await meter.close()
                    await self._hold(scope, sender.name, LIMIT_SECONDS)
                MutableHeaders(scope=message).update(await meter.headers())
            await send(message)

        try:
            if scope["method"] == "POST" and DRAWINGS.fullmatch(path):
                await meter.open()
            await self.app(scope, receive, send_standing)
        except (LimitError, UnavailableError) as error:  # of the meter; the app answers its own
            await error_body(error)(scope, receive, send_standing)
        finally:
            await meter.close()

    def _admit(self, scope: Scope, path: str) -> Sender:
        """The sender, if it may ask for this; else Refusal."""
        address = _address(scope)
        if not self._needs_key(scope):
            return Sender(address_name(address), "", frozenset(SCOPES), address, self.defaults)
        text = _given_key(Headers(scope=scope).get("authorization", ""), path)
        if not text:
            message = "a key is needed: send the header Authorization: Bearer KEY"
            raise Refusal(401, message, "missing_api_key")
        key = self.ring.find(text)
        if key is None:
            raise Refusal(401, "the key is wrong, or was revoked", WRONG)
        limits = key.limits.over(self.defaults)
        sender = Sender(key.name, key.name, key.scopes, address, limits)
        needed: senders.Scope = "metrics" if path == "/metrics" else "draw"
        if not sender.may(needed):
            held = ", ".join(sorted(key.scopes))
            message = f"this needs a key of scope {needed!r}, and yours has: {held}"
            raise Refusal(403, message, "insufficient_permissions")
        return sender

    async def _hold(self, scope: Scope, name: str, seconds: float) -> None:
        """Let who is refused too often wait for the answer. The right key and what is within its
        limits are answered at once, whatever else came from there; and a connection that is held
        makes room for others as one does that asks for nothing."""
        try:
            await self._refusals.spend(name, FREE_REFUSALS, "requests")
        except LimitError:
            scope["state"][HELD] = True
            await asyncio.sleep(seconds)
            scope["state"][HELD] = False

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
    """The key in a header; empty if there is none."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic" and BY_PASSWORD.fullmatch(path):
        try:
            decoded = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return ""
