"""Limits: drawings and picture tokens a minute and a day, and drawings at once, of each sender.

Where they are counted is the choice of whoever makes the Limiter: in memory each process counts for
itself, and anew after a restart; in a database all who share it count together.
"""

import math
import time
from dataclasses import dataclass
from typing import Literal, Self

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import BaseModel, ConfigDict, Field

from unmask.errors import LimitError, RequestError, UnavailableError
from unmask.server.keys.places import MemoryPlaces, Places
from unmask.server.keys.storage import DatabaseStorage
from unmask.settings import Settings

Kind = Literal["requests", "tokens"]
Bound = int | None  # None: that of the settings; 0: none

PLACE_SECONDS = 1  # after which a drawing that runs may have ended


class Limits(BaseModel):
    """What a key may do; None leaves it to the settings, and 0 is no bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: Bound = Field(default=None, ge=0)
    requests_per_day: Bound = Field(default=None, ge=0)
    tokens_per_minute: Bound = Field(default=None, ge=0)
    tokens_per_day: Bound = Field(default=None, ge=0)
    jobs_at_once: Bound = Field(default=None, ge=0)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits of whoever has none of his own."""
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})

    def over(self, defaults: "Limits") -> "Limits":
        """These limits, and the defaults where there is none."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))

    def windows(self, kind: Kind) -> list[RateLimitItem]:
        """The bounds of one kind, the shorter window first."""
        if kind == "requests":
            minute, day = self.requests_per_minute, self.requests_per_day
        else:
            minute, day = self.tokens_per_minute, self.tokens_per_day
        windows: list[RateLimitItem] = []
        if minute:
            windows.append(RateLimitItemPerMinute(minute))
        if day:
            windows.append(RateLimitItemPerDay(day))
        return windows


@dataclass(frozen=True)
class Standing:
    """How much of the tightest window of a kind is left, and in how many seconds all of it is."""

    limit: int
    remaining: int
    reset_seconds: float


class Limiter:
    """The counts of all senders. A window slides: what was used in the last one counts still, by
    the share of it that lies within reach. Called from one event loop."""

    def __init__(
        self,
        storage: MemoryStorage | DatabaseStorage | None = None,
        places: Places | None = None,
    ) -> None:
        """In memory, unless told otherwise."""
        self._storage = storage or MemoryStorage()
        self._strategy = SlidingWindowCounterRateLimiter(self._storage)
        self._places = places or MemoryPlaces()

    async def spend(self, name: str, limits: Limits, kind: Kind, cost: int = 1) -> None:
        """Count a cost; LimitError if there is no room for it now, RequestError if there is never.
        What is refused is not counted."""
        windows = limits.windows(kind)
        for window in windows:
            told = f"{window.amount} {kind} a {window.GRANULARITY.name}"
            if cost > window.amount:
                raise RequestError(
                    f"this takes {cost} {kind}, and you may have {told}: ask for fewer images, "
                    "or for a smaller one",
                    "n",
                )
            seconds = await self._wait(name, kind, window, cost)
            if seconds > 0:
                raise LimitError(f"you may have {told}", math.ceil(seconds))
        for counted, window in enumerate(windows):
            if not await self._strategy.hit(window, kind, name, cost=cost):
                # Others were counted since there was room, so what was counted for this is undone.
                for before in windows[:counted]:
                    await self._undo(name, kind, before, cost)
                seconds = await self._wait(name, kind, window, cost)
                told = f"{window.amount} {kind} a {window.GRANULARITY.name}"
                raise LimitError(f"you may have {told}", max(1, math.ceil(seconds)))

    async def standing(self, name: str, limits: Limits, kind: Kind) -> Standing | None:
        """The window of which the least is left; None if there is no bound."""
        tightest: Standing | None = None
        for window in limits.windows(kind):
            _, remaining = await self._strategy.get_window_stats(window, kind, name)
            if tightest is None or remaining < tightest.remaining:
                seconds = await self._wait(name, kind, window, window.amount)
                tightest = Standing(window.amount, remaining, seconds)
        return tightest

    async def enter(self, name: str, limits: Limits) -> str:
        """Count one more drawing at once, until ``leave`` with what this gives; LimitError if there
        is no room."""
        place = await self._places.take(name, limits.jobs_at_once or 0)
        if place is None:
            message = f"drawings at once: you may have {limits.jobs_at_once}"
            raise LimitError(message, PLACE_SECONDS)
        return place

    async def leave(self, place: str) -> None:
        """Count one drawing less."""
        await self._places.give_back(place)

    async def _undo(self, name: str, kind: Kind, window: RateLimitItem, cost: int) -> None:
        key, expiry = window.key_for(kind, name), window.get_expiry()
        _, current = self._storage.sliding_window_keys(key, expiry, time.time())
        await self._storage.decr(current, cost)

    async def _wait(self, name: str, kind: Kind, window: RateLimitItem, cost: int) -> float:
        """In how many seconds the window has room for the cost, if nothing is added."""
        expiry = window.get_expiry()
        last, last_left, current, current_left = await self._storage.get_sliding_window(
            window.key_for(kind, name), expiry
        )
        room = window.amount - cost
        if last * last_left / expiry + current <= room:
            return 0.0
        if current <= room:  # as soon as enough of the last window has slid out
            return last_left - (room - current) * expiry / last
        # Then the current one is the last one, and slides out itself.
        return (current_left - expiry) + expiry * (1 - room / current)


class Meter:
    """What one request has used; it holds a place among the drawings at once until it is closed."""

    def __init__(self, limiter: Limiter, name: str, limits: Limits) -> None:
        self._limiter, self._name, self._limits = limiter, name, limits
        self._place: str | None = None

    async def open(self) -> None:
        """Take a place, and count a request. LimitError."""
        self._place = await self._limiter.enter(self._name, self._limits)
        await self._limiter.spend(self._name, self._limits, "requests")

    async def spend_tokens(self, tokens: int) -> None:
        """Count what is about to be drawn. LimitError; RequestError if it is more than ever fits.

        It counts even if the drawing fails, or nobody waits for it: so much was asked for.
        """
        await self._limiter.spend(self._name, self._limits, "tokens", tokens)

    async def close(self) -> None:
        """Give the place back."""
        place, self._place = self._place, None
        if place is not None:
            await self._limiter.leave(place)

    async def headers(self) -> dict[str, str]:
        """Where the sender stands, as OpenAI tells it; empty if nothing is bounded, or if it cannot
        be told now."""
        headers = {}
        for kind in ("requests", "tokens"):
            try:
                standing = await self._limiter.standing(self._name, self._limits, kind)
            except UnavailableError:
                return {}
            if standing is not None:
                headers[f"x-ratelimit-limit-{kind}"] = str(standing.limit)
                headers[f"x-ratelimit-remaining-{kind}"] = str(standing.remaining)
                headers[f"x-ratelimit-reset-{kind}"] = _duration(standing.reset_seconds)
        return headers


def _duration(seconds: float) -> str:
    """As OpenAI writes it: ``1h2m3s``, ``4s``, ``120ms``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    hours, rest = divmod(math.ceil(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
