"""Limits on a clock that the tests move."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from unmask.errors import LimitError, RequestError
from unmask.server.keys.limits import Limiter, Limits, Meter
from unmask.server.keys.places import DatabasePlaces
from unmask.server.keys.storage import DatabaseStorage
from unmask.server.state.state import State
from unmask.settings import Settings

pytestmark = pytest.mark.anyio
MINUTE, DAY = 60, 86_400


class Clock:
    """The time of day, which stands still but for what it is moved."""

    def __init__(self) -> None:
        self.now = 1_000 * DAY  # the beginning of a minute and of a day

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture(name="limiter", params=["memory", "database"])
def _limiter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Limiter]:
    if request.param == "memory":
        yield Limiter()
        return
    state = State(Settings(state_dir=tmp_path, limits="database"))
    yield Limiter(DatabaseStorage(state), DatabasePlaces(state))
    state.close()


async def test_so_many_requests_a_minute_and_no_more(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(requests_per_minute=3)
    for _ in range(3):
        await limiter.spend("ann", limits, "requests")
    with pytest.raises(LimitError, match="3 requests a minute"):
        await limiter.spend("ann", limits, "requests")
    await limiter.spend("bob", limits, "requests")


@pytest.mark.parametrize("cost", [1, 40, 100])
async def test_a_refusal_tells_when_there_is_room_again_and_not_later(
    limiter: Limiter, clock: Clock, cost: int
) -> None:
    limits = Limits(tokens_per_minute=100)
    clock.now += 20
    await limiter.spend("ann", limits, "tokens", 100)
    with pytest.raises(LimitError) as refusal:
        await limiter.spend("ann", limits, "tokens", cost)
    clock.now += refusal.value.retry_after - 2
    with pytest.raises(LimitError):
        await limiter.spend("ann", limits, "tokens", cost)
    clock.now += 2
    await limiter.spend("ann", limits, "tokens", cost)


async def test_the_day_binds_where_the_minute_does_not(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(requests_per_minute=2, requests_per_day=3)
    for _ in range(3):
        await limiter.spend("ann", limits, "requests")
        clock.now += 2 * MINUTE
    with pytest.raises(LimitError, match="3 requests a day"):
        await limiter.spend("ann", limits, "requests")
    standing = await limiter.standing("ann", limits, "requests")
    assert standing is not None
    assert (standing.limit, standing.remaining) == (3, 0)
    assert DAY < standing.reset_seconds + 6 * MINUTE <= 2 * DAY


async def test_what_is_refused_is_not_counted(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(tokens_per_minute=100, tokens_per_day=120)
    await limiter.spend("ann", limits, "tokens", 90)
    clock.now += 2 * MINUTE
    with pytest.raises(LimitError, match="a day"):
        await limiter.spend("ann", limits, "tokens", 40)
    await limiter.spend("ann", limits, "tokens", 30)


async def test_more_than_a_window_ever_holds_is_a_fault_of_the_request(
    limiter: Limiter, clock: Clock
) -> None:
    with pytest.raises(RequestError, match=r"101 tokens.*100 tokens a minute"):
        await limiter.spend("ann", Limits(tokens_per_minute=100), "tokens", 101)


async def test_no_bound_is_none(limiter: Limiter) -> None:
    limits = Limits(requests_per_minute=0)
    for _ in range(100):
        await limiter.spend("ann", limits, "requests")
        await limiter.enter("ann", limits)
    assert await Meter(limiter, "ann", limits).headers() == {}


async def test_a_meter_gives_its_place_back_once(limiter: Limiter) -> None:
    limits = Limits(jobs_at_once=1)
    first, second = Meter(limiter, "ann", limits), Meter(limiter, "ann", limits)
    await first.open()
    with pytest.raises(LimitError, match="at once: you may have 1"):
        await second.open()
    await second.close()
    with pytest.raises(LimitError):
        await second.open()
    await first.close()
    await first.close()
    await second.open()


async def test_headers_tell_the_standing_as_openai_does(limiter: Limiter, clock: Clock) -> None:
    meter = Meter(limiter, "ann", Limits(requests_per_minute=10, tokens_per_day=1000))
    await meter.open()
    await meter.spend_tokens(64)
    assert await meter.headers() == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "2m0s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "936",
        "x-ratelimit-reset-tokens": "48h0m0s",
    }


def test_a_keys_own_limits_stand_over_the_defaults() -> None:
    limits = Limits(requests_per_day=0, jobs_at_once=2)
    defaults = Limits(requests_per_minute=5, requests_per_day=6, jobs_at_once=7)
    over = limits.over(defaults)
    assert (over.requests_per_minute, over.requests_per_day, over.jobs_at_once) == (5, 0, 2)
