"""Whose rows are stepped next; the engine's own tests run them."""

import asyncio

import pytest

from tests.worlds.server import FakePipeline, ask, running
from unmask.pipeline import Generated

pytestmark = pytest.mark.anyio


async def _drawn(task: "asyncio.Task[Generated]", pipeline: FakePipeline) -> int:
    """How many batches had run when it was done."""
    await task
    return len(pipeline.fake.batches)


async def test_a_flood_of_one_key_delays_itself(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=8) as engine:
        flood = [
            ask(engine, pipeline, "flood", key="flood", n=8, steps=16, seed=i) for i in range(4)
        ]
        while len(pipeline.fake.batches) < 20:
            await asyncio.sleep(0.001)
        before = len(pipeline.fake.batches)
        mine = ask(engine, pipeline, "mine", key="mine", steps=6)
        after = await _drawn(mine, pipeline)
        await asyncio.gather(*flood)
    own = [batch for batch in pipeline.fake.batches[before:after] if "mine" in batch]
    assert len(own) == 6
    # It found all rows taken, and was begun beside them; a batch or two were on their way.
    assert after - before <= 6 + 4
    assert all("flood" not in batch for batch in own)


async def test_keys_that_ask_for_as_much_share_batches(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=4) as engine:
        asked = [ask(engine, pipeline, key, key=key, steps=12) for key in "abcd"]
        await asyncio.gather(*asked)
    full = [batch for batch in pipeline.fake.batches if len(batch) == 4]
    assert len(full) >= 8


async def test_a_new_row_of_the_same_key_joins_at_the_next_step(pipeline: FakePipeline) -> None:
    """Though there are more rows than a CPU steps at a time."""
    async with running(pipeline, max_rows=12) as engine:
        long = ask(engine, pipeline, "long", n=8, steps=64)
        while len(pipeline.fake.batches) < 10:
            await asyncio.sleep(0.001)
        before = len(pipeline.fake.batches)
        after = await _drawn(ask(engine, pipeline, "short", steps=3), pipeline)
        long.cancel()
    # Of nine rows four are stepped at a time, by turns.
    assert after - before <= 3 * 3 + 4


async def test_rows_take_turns_in_batches_that_stay_together(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=8) as engine:
        await asyncio.gather(*(ask(engine, pipeline, str(i), steps=8) for i in range(8)))
    together = {tuple(batch) for batch in pipeline.fake.batches if len(batch) == 4}
    assert len(together) <= 6
