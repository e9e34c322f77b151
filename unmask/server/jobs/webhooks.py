"""Webhooks: what tells a sender's own server that a job has ended, as Standard Webhooks has it.

Where to call is the sender's choice, so the call must reach nothing that only this machine can: a
name is resolved once, all its addresses must be public, and the one that was checked is connected
to. No redirect is followed, and nothing of the answer is read but its status.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
from sqlalchemy import Engine, delete, func, select, update
from starlette.concurrency import run_in_threadpool

from unmask.errors import RequestError
from unmask.server.state.database import changing, upsert
from unmask.server.state.tables import deliveries, webhooks

log = logging.getLogger(__name__)

WAITS = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)  # seconds between attempts
GIVEN_UP_SECONDS = 3 * 86400  # after which nobody is told any more
SEND_SECONDS = 10.0
AT_ONCE = 8  # senders who are called at a time
LONGEST_URL = 2000
GONE = 410
# What is another address in disguise: of IPv4 within IPv6, behind a translator.
DISGUISED = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Delivery:
    """A message on its way."""

    id: str
    owner: str
    url: str
    secret: str
    body: str
    attempts: int


class Hooks:
    """The webhooks of all owners, and what they are still to be told. Its methods block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, owner: str, url: str) -> str:
        """Call this URL when a job of the owner ends; the secret, which is new each time.
        RequestError for a URL that is never called."""
        check_url(url)
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        with changing(self._engine) as connection:
            values = {"url": url, "secret": secret, "created": time.time()}
            upsert(connection, webhooks, {"owner": owner, **values}, values)
        return secret

    def find(self, owner: str) -> str | None:
        """The URL of an owner, if there is one."""
        with self._engine.connect() as connection:
            query = select(webhooks.c.url).where(webhooks.c.owner == owner)
            return connection.execute(query).scalar_one_or_none()

    def remove(self, owner: str) -> bool:
        """Call no more; False if there was nobody to call."""
        with changing(self._engine) as connection:
            connection.execute(delete(deliveries).where(deliveries.c.owner == owner))
            gone = connection.execute(delete(webhooks).where(webhooks.c.owner == owner))
        return gone.rowcount > 0

    def claim(self) -> list[Delivery]:
        """Messages that are due, one an owner. They are due again later, unless they are done."""
        now, claimed = time.time(), []
        with changing(self._engine) as connection:
            connection.execute(delete(deliveries).where(deliveries.c.due < now - GIVEN_UP_SECONDS))
            owners = connection.execute(
                select(deliveries.c.owner)
                .where(deliveries.c.due <= now)
                .group_by(deliveries.c.owner)
                .order_by(func.min(deliveries.c.due))
                .limit(AT_ONCE)
            ).scalars()
            for owner in owners.all():
                row = connection.execute(
                    select(deliveries, webhooks.c.url, webhooks.c.secret)
                    .join(webhooks, webhooks.c.owner == deliveries.c.owner)
                    .where(deliveries.c.owner == owner, deliveries.c.due <= now)
                    .order_by(deliveries.c.due)
                    .limit(1)
                    .with_for_update(skip_locked=True, of=deliveries)
                ).one_or_none()
                if row is None:  # another calls them in this moment
                    continue
                wait = WAITS[min(row.attempts, len(WAITS) - 1)]
                connection.execute(
                    update(deliveries)
                    .where(deliveries.c.id == row.id)
                    .values(due=now + wait, attempts=row.attempts + 1)
                )
                claimed.append(
                    Delivery(row.id, owner, row.url, row.secret, row.body, row.attempts + 1)
                )
        return claimed

    def done(self, delivery: Delivery) -> None:
        """Forget a message."""
        with changing(self._engine) as connection:
            connection.execute(delete(deliveries).where(deliveries.c.id == delivery.id))


class Caller:
    """Calls the webhooks, from one event loop."""

    def __init__(
        self,
        hooks: Hooks,
        *,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
        is_allowed: "Callable[[Address], bool] | None" = None,
    ) -> None:
        """Whatever is given takes the place of the system's names, its certificates, and the rule
        that only public addresses are called."""
        self._hooks = hooks
        self._resolve = resolve or _resolve
        self._context = context or ssl.create_default_context()
        self._is_allowed = is_allowed or is_public

    async def run(self, idle_seconds: float) -> None:
        """Call whoever is due, for ever."""
        while True:
            try:
                if await self.call_due():
                    continue
            except Exception:
                log.exception("webhooks could not be called")
            await asyncio.sleep(idle_seconds)

    async def call_due(self) -> int:
        """Send each owner one message that is due; how many were tried."""
        claimed = await run_in_threadpool(self._hooks.claim)
        await asyncio.gather(*map(self._deliver, claimed))
        return len(claimed)

    async def _deliver(self, delivery: Delivery) -> None:
        host = urlsplit(delivery.url).hostname
        try:
            async with asyncio.timeout(SEND_SECONDS):
                status = await self._send(delivery)
        except (OSError, ValueError, RequestError, httpx2.HTTPError) as error:
            log.info("webhook %s: %s: %s", host, delivery.id, type(error).__name__)
            status = 0
        if status == GONE:
            await run_in_threadpool(self._hooks.remove, delivery.owner)
        elif 200 <= status < 300 or delivery.attempts > len(WAITS):
            await run_in_threadpool(self._hooks.done, delivery)

    async def _send(self, delivery: Delivery) -> int:
        """The status of the answer. RequestError for an address that is not public; OSError,
        httpx2.HTTPError."""
        url = httpx2.URL(delivery.url)
        port = url.port or 443
        addresses = [ipaddress.ip_address(text) for text in await self._resolve(url.host, port)]
        if not addresses or not all(map(self._is_allowed, addresses)):
            raise RequestError("url: its host is not at a public address", "url")
        now = int(time.time())
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "unmask",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(delivery.secret, delivery.id, now, delivery.body),
        }
        async with (
            httpx2.AsyncClient(verify=self._context, trust_env=False) as client,
            client.stream(
                "POST",
                url.copy_with(host=str(addresses[0])),
                content=delivery.body.encode(),
                headers=headers,
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            return answer.status_code


def signature(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """What proves that a message is from whoever knows the secret, as Standard Webhooks has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def check_url(url: str) -> None:
    """RequestError for a URL that is never called. Where its host is, is looked up at each call."""
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        raise RequestError(f"url {url[:80]!r}: it is no URL", "url") from None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= LONGEST_URL
    if parts.scheme != "https" or not parts.hostname or port == 0 or not plain:
        raise RequestError(
            f"url {url[:80]!r}: give https://HOST/PATH of at most {LONGEST_URL} ASCII characters",
            "url",
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise RequestError("url: it may hold neither a name, nor a password, nor a #", "url")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not is_public(address):
        raise RequestError(f"url: {address} is not a public address", "url")


def is_public(address: Address) -> bool:
    """Whether everybody reaches the same machine by an address."""
    if isinstance(address, ipaddress.IPv6Address):
        disguised = address.ipv4_mapped or address.sixtofour or address.teredo
        if disguised or address in DISGUISED:
            return False
    return address.is_global and not address.is_multicast


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=0, proto=6)
    return [str(address[4][0]) for address in found]
