"""Whose rows are stepped next; the engine's own tests run them."""

import asyncio
from collections.abc import Callable

import pytest

from tests.worlds.server import FakePipeline, Gate, ask, running, until
from unmask.pipeline import Generated
from unmask.server.engine.engine import Engine

pytestmark = pytest.mark.anyio


async def _batches_of(
    request: Callable[[], "asyncio.Task[Generated]"],
    engine: Engine,
    pipeline: FakePipeline,
    come: int,
) -> list[list[str]]:
    """Those behind the one within which a request came, after so many, to the last that drew it."""
    gate, batches = Gate(), pipeline.fake.batches

    def during(prompts: list[str]) -> None:
        if len(batches) >= come:
            gate(prompts)

    pipeline.fake.during = during
    await until(gate.entered.is_set)
    before, queued = len(batches), len(engine.queue)
    task = request()
    await until(lambda: len(engine.queue) > queued)
    gate.opened.set()
    prompt = (await task).request.prompt
    last = max(place for place, batch in enumerate(batches) if prompt in batch)
    return batches[before : last + 1]


async def test_a_flood_of_one_key_delays_itself(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=8) as engine:
        flood = [
            ask(engine, pipeline, "flood", key="flood", n=8, steps=16, seed=i) for i in range(4)
        ]
        batches = await _batches_of(
            lambda: ask(engine, pipeline, "mine", key="mine", steps=6), engine, pipeline, 20
        )
        await asyncio.gather(*flood)
    own = [batch for batch in batches if "mine" in batch]
    assert len(own) == 6
    # It found all rows taken, and was begun beside them.
    assert len(batches) <= 6 + 4
    assert all("flood" not in batch for batch in own)


async def test_keys_that_ask_for_as_much_share_batches(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=4) as engine:
        asked = [ask(engine, pipeline, key, key=key, steps=12) for key in "abcd"]
        await asyncio.gather(*asked)
    pairs = [batch for batch in pipeline.fake.batches if len(batch) == 2]
    assert len(pairs) >= 20  # of 24, if all had come at once


async def test_a_new_row_of_the_same_key_joins_at_the_next_step(pipeline: FakePipeline) -> None:
    """Though there are more rows than a CPU steps at a time."""
    async with running(pipeline, max_rows=12) as engine:
        long = ask(engine, pipeline, "long", n=8, steps=64)
        batches = await _batches_of(
            lambda: ask(engine, pipeline, "short", steps=3), engine, pipeline, 10
        )
        long.cancel()
    # Of nine rows two are stepped at a time, by turns.
    assert len(batches) <= 3 * 5 + 4


async def test_rows_take_turns_in_batches_that_stay_together(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=8) as engine:
        await asyncio.gather(*(ask(engine, pipeline, str(i), steps=8) for i in range(8)))
    together = {tuple(batch) for batch in pipeline.fake.batches if len(batch) == 2}
    assert len(together) <= 8
