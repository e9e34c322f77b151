"""The engine around a pipeline that draws at once and on command."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.worlds.server import SECONDS, FakePipeline, Gate, Prompts, ask, running, until
from unmask.errors import DrawingError, QueueFullError, RequestError, UnavailableError
from unmask.pipeline import DrawRequest, Generated
from unmask.sampling.backbone import Pass
from unmask.server.engine.engine import Engine
from unmask.server.engine.tickets import Event, Preview, Priority, Progress
from unmask.server.engine.worker import Worker

pytestmark = pytest.mark.anyio


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, SECONDS)


def measure(engine: Engine, work_per_second: float) -> None:
    """As if steps of one row had been measured."""
    for _ in range(10):
        engine.figures.times(engine.options.models[0]).add(64.0, 64.0 / work_per_second)


def prompt_of(result: Generated | BaseException) -> str:
    assert isinstance(result, Generated)
    return result.request.prompt


async def waiting(engine: Engine, count: int) -> None:
    await until(lambda: len(engine.queue) >= count)


async def test_requests_share_batches_and_come_and_go_between_steps(pipeline: FakePipeline) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline) as engine:
        first = ask(engine, pipeline, "long", steps=6)
        await entered(gate)
        second = ask(engine, pipeline, "short", steps=2)
        await waiting(engine, 1)
        gate.opened.set()
        await asyncio.gather(first, second)
    assert pipeline.fake.batches == [["long"], *[["long", "short"]] * 2, *[["long"]] * 3]


async def test_images_are_what_was_asked_for(pipeline: FakePipeline) -> None:
    async with running(pipeline) as engine:
        tasks = [ask(engine, pipeline, f"cat {i}", n=1 + i % 3, seed=i) for i in range(10)]
        for task in tasks:
            drawn = await task
            expected = [pipeline.draw(drawn.request, i) for i in range(drawn.request.n)]
            assert [a.tobytes() for a in drawn.images] == [b.tobytes() for b in expected]
        assert engine.stats().finished == 10
        assert engine.stats().running == engine.stats().queued == 0


async def test_no_more_rows_than_allowed_run_at_a_time(pipeline: FakePipeline) -> None:
    async with running(pipeline, max_rows=3) as engine:
        await asyncio.gather(*(ask(engine, pipeline, n=4, seed=i) for i in range(4)))
    assert max(map(len, pipeline.fake.batches)) == 3


async def test_a_lower_priority_and_a_greedy_key_wait(pipeline: FakePipeline) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline, max_rows=1) as engine:
        tasks = [ask(engine, pipeline, "first", steps=1)]
        await entered(gate)
        for prompt, key, priority in (
            ("low", "b", Priority.LOW), ("a1", "a", Priority.NORMAL), ("a2", "a", Priority.NORMAL),
            ("b1", "b", Priority.NORMAL), ("high", "a", Priority.HIGH),
        ):  # fmt: skip
            tasks.append(ask(engine, pipeline, prompt, steps=1, key=key, priority=priority))
            await waiting(engine, len(tasks) - 1)
        gate.opened.set()
        await asyncio.gather(*tasks)
    order = [batch[0] for batch in pipeline.fake.batches]
    # High counted as a turn of a, so b comes before a.
    assert order == ["first", "high", "b1", "a1", "a2", "low"]


async def test_a_full_queue_refuses_and_forgets_those_who_left(pipeline: FakePipeline) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline, max_queue=1, max_rows=1) as engine:
        first = ask(engine, pipeline, "running")
        await entered(gate)
        second = ask(engine, pipeline, "waiting")
        await waiting(engine, 1)
        with pytest.raises(QueueFullError, match="1 requests are waiting") as refusal:
            await ask(engine, pipeline, "refused")
        assert 1 <= refusal.value.retry_after <= 60
        second.cancel()
        await asyncio.wait({second})
        third = ask(engine, pipeline, "taken")
        await waiting(engine, 1)
        gate.opened.set()
        await asyncio.gather(first, third)
        assert engine.stats().refused == engine.stats().cancelled == 1


async def test_more_than_can_be_done_in_time_is_refused(pipeline: FakePipeline) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline, max_wait_seconds=1.0, max_rows=1) as engine:
        measure(engine, 100.0)  # 64 tokens x 3 steps are two seconds
        tasks = [ask(engine, pipeline)]
        await entered(gate)
        tasks.append(ask(engine, pipeline))
        await waiting(engine, 1)
        with pytest.raises(QueueFullError, match="will take 2 s"):
            await ask(engine, pipeline)
        gate.opened.set()
        await asyncio.gather(*tasks)
        await ask(engine, pipeline)


async def test_what_runs_in_the_same_batch_keeps_nobody_out() -> None:
    pipeline = FakePipeline(windows=300)
    async with running(pipeline, max_wait_seconds=1.0) as engine:
        measure(engine, 100.0)
        edit = ask(engine, pipeline, "large", windows=300, key="a")
        for _ in range(5):
            await ask(engine, pipeline, "small", steps=1, key="b")
        assert not edit.done()
        edit.cancel()


async def test_what_cannot_end_in_time_is_refused_at_once_with_what_would_fit(
    pipeline: FakePipeline,
) -> None:
    async with running(pipeline) as engine:
        measure(engine, 100.0)
        with pytest.raises(RequestError, match=r"about 2 s .* after 1 s: .* 1 steps") as refusal:
            await ask(engine, pipeline, timeout=1.0)
        assert refusal.value.param == "steps"
        with pytest.raises(RequestError, match=r"of the 40 windows .* about 5 would fit"):
            await ask(engine, pipeline, windows=40, timeout=10.0)
        assert (await ask(engine, pipeline, steps=1, timeout=1.0)).images
        assert engine.stats().refused == 2


async def test_before_anything_was_measured_nobody_is_refused(pipeline: FakePipeline) -> None:
    async with running(pipeline) as engine:
        pipeline.fake.during = lambda prompts: time.sleep(0.01)
        with pytest.raises(TimeoutError):
            await ask(engine, pipeline, steps=60, timeout=0.1)


@pytest.mark.parametrize("n", [1, 10])
async def test_large_requests_let_small_ones_pass_between_their_windows(n: int) -> None:
    pipeline, gate = FakePipeline(windows=20), Gate()
    pipeline.fake.during = gate
    async with running(pipeline, max_rows=2) as engine:
        edit = ask(engine, pipeline, "large", n=n, steps=2, windows=20, key="a")
        await entered(gate)
        others = [ask(engine, pipeline, f"small {i}", steps=1, key="b") for i in range(4)]
        await waiting(engine, 4)
        gate.opened.set()
        await asyncio.gather(*others)
        assert not edit.done()
        assert len(pipeline.fake.batches) < 40
        edit.cancel()


async def test_a_request_given_up_leaves_at_the_next_step(pipeline: FakePipeline) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline) as engine:
        left = ask(engine, pipeline, "left", steps=50)
        await entered(gate)
        left.cancel()
        await asyncio.wait({left})
        stays = ask(engine, pipeline, "stays", steps=3)
        await waiting(engine, 1)
        gate.opened.set()
        await stays
    assert pipeline.fake.batches == [["left"], *[["stays"]] * 3]


async def test_a_request_that_takes_too_long_is_given_up(pipeline: FakePipeline) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline) as engine:
        with pytest.raises(TimeoutError, match="not done within"):
            await ask(engine, pipeline, steps=50, timeout=0.05)
        gate.opened.set()
        await ask(engine, pipeline, steps=1)
    assert len(pipeline.fake.batches) == 2


async def test_a_poisoned_row_fails_alone_and_changes_no_neighbour(pipeline: FakePipeline) -> None:
    def during(prompts: list[str]) -> None:
        if "bad" in prompts:
            raise ValueError("poison")

    pipeline.fake.during = during
    gate = Gate()
    async with running(pipeline) as engine:
        pipeline.fake.during = gate
        first = ask(engine, pipeline, "first", steps=1)
        await entered(gate)
        prompts = ["good", "fine", "bad", "well", "sound"]
        tasks = [ask(engine, pipeline, prompt) for prompt in prompts]
        await waiting(engine, len(prompts))
        pipeline.fake.during = during
        gate.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await first
    assert isinstance(results.pop(2), ValueError)
    for result in results:
        assert isinstance(result, Generated)
        assert result.images[0].tobytes() == pipeline.draw(result.request, 0).tobytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_logits_that_are_no_numbers_fail_their_request_alone(
    pipeline: FakePipeline, value: float
) -> None:
    full = pipeline.fake.full

    def poisoned(tokens: Tensor, prefix: Prompts, **options: Any) -> Pass:
        found = full(tokens, prefix, **options)
        for row, prompt in enumerate(prefix.prompts):
            if prompt == "bad":
                found.logits[row, 5, 0] = value
        return found

    pipeline.fake.full = poisoned  # type: ignore[method-assign]
    async with running(pipeline) as engine:
        results = await asyncio.gather(
            *(ask(engine, pipeline, prompt) for prompt in ("good", "bad", "fine")),
            return_exceptions=True,
        )
    assert isinstance(results[1], DrawingError)
    assert [prompt_of(result) for result in (results[0], results[2])] == ["good", "fine"]


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
async def test_out_of_memory_halves_the_batch_and_goes_on(
    pipeline: FakePipeline, kind: type[Exception]
) -> None:
    def during(prompts: list[str]) -> None:
        if len(prompts) > 3:
            raise kind("no more")

    pipeline.fake.during = during
    async with running(pipeline, max_rows=12) as engine:
        results = await asyncio.gather(*(ask(engine, pipeline, n=6, seed=i) for i in range(4)))
        assert all(len(result.images) == 6 for result in results)
        assert engine.workers["worker-0"].max_rows <= 3
        assert engine.stats().failed == 0


async def test_a_drawing_that_fails_fails_alone(pipeline: FakePipeline) -> None:
    draw = pipeline.draw

    def failing(request: DrawRequest, index: int) -> Image.Image:
        if request.prompt == "bad":
            raise OSError("decoder")
        return draw(request, index)

    pipeline.draw = failing  # type: ignore[method-assign]
    async with running(pipeline) as engine:
        results = await asyncio.gather(
            *(ask(engine, pipeline, prompt) for prompt in ("good", "bad")), return_exceptions=True
        )
    assert isinstance(results[1], OSError)
    assert prompt_of(results[0]) == "good"


METHODS = (
    "sweep", "collect", "admit", "take", "begin", "advance", "finish", "resume", "receive", "leave",
    "rest",
)  # fmt: skip


@pytest.mark.parametrize("point", METHODS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_worker_killed_at_any_point_leaves_nobody_waiting(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, point: str, after: bool
) -> None:
    """And is replaced: what is asked then is drawn."""
    original = getattr(Worker, point)
    kills: list[str] = []

    def killing(self: Worker, *arguments: object) -> object:
        armed = not kills and pipeline.fake.batches
        if armed and not after:
            kills.append(point)
            raise SystemExit
        result = original(self, *arguments)
        if armed and not kills:
            kills.append(point)
            raise SystemExit
        return result

    monkeypatch.setattr(Worker, point, killing)
    async with running(pipeline, max_rows=3) as engine:
        tasks = [ask(engine, pipeline, f"cat {i}", n=2, seed=i) for i in range(4)]
        done, left = await asyncio.wait(tasks, timeout=10)
        assert not left
        await until(lambda: bool(kills))  # rest comes only when there is nothing to do
        for task in done:
            error = task.exception()
            assert error is None or (isinstance(error, UnavailableError) and "died" in str(error))
        async with asyncio.timeout(SECONDS):
            while True:
                with contextlib.suppress(UnavailableError):
                    await ask(engine, pipeline, "after")
                    break
                await asyncio.sleep(0.002)
        assert engine.stats().deaths == 1


async def test_a_worker_that_stays_dead_makes_the_engine_unready(pipeline: FakePipeline) -> None:
    def during(prompts: list[str]) -> None:
        raise SystemExit

    pipeline.fake.during = during
    async with running(pipeline, on_death="stay", max_rows=1) as engine:
        results = await asyncio.gather(
            *(ask(engine, pipeline, seed=i) for i in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, UnavailableError) for result in results)
        with pytest.raises(UnavailableError, match="died"):
            engine.ready()
        with pytest.raises(UnavailableError, match="died"):
            await ask(engine, pipeline)


async def test_a_worker_that_dies_again_and_again_is_left_dead(pipeline: FakePipeline) -> None:
    def during(prompts: list[str]) -> None:
        raise SystemExit

    pipeline.fake.during = during
    async with running(pipeline) as engine:
        async with asyncio.timeout(SECONDS):
            while engine.workers:
                with pytest.raises(UnavailableError):
                    await ask(engine, pipeline)
                await asyncio.sleep(0.002)
        assert engine.stats().deaths == 6
        with pytest.raises(UnavailableError, match="died"):
            engine.ready()


async def test_the_process_is_told_to_end_if_so_set(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = []
    monkeypatch.setattr("os.kill", lambda process, signal: signals.append(signal.name))

    def during(prompts: list[str]) -> None:
        raise SystemExit

    pipeline.fake.during = during
    async with running(pipeline, on_death="exit") as engine:
        with pytest.raises(UnavailableError, match="died"):
            await ask(engine, pipeline)
        await until(lambda: bool(signals))
        assert signals == ["SIGTERM"]


async def test_stopping_fails_those_who_wait_and_the_one_being_drawn(
    pipeline: FakePipeline,
) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline, max_rows=1) as engine:
        tasks = [ask(engine, pipeline, prompt) for prompt in "abc"]
        await entered(gate)
        stopping = asyncio.create_task(engine.stop())
        for task in tasks:
            with pytest.raises(UnavailableError, match="stopping"):
                await task
        gate.opened.set()
        await stopping
        with pytest.raises(UnavailableError, match="stopping"):
            await ask(engine, pipeline)
    assert len(pipeline.fake.batches) == 1


async def test_draining_takes_nothing_new_and_finishes_what_is_there(
    pipeline: FakePipeline,
) -> None:
    gate = Gate()
    pipeline.fake.during = gate
    async with running(pipeline) as engine:
        task = ask(engine, pipeline)
        await entered(gate)
        assert not await engine.drain(0.05)
        with pytest.raises(UnavailableError, match="stopping"):
            await ask(engine, pipeline)
        gate.opened.set()
        assert await engine.drain(10)
        assert (await task).images


async def test_progress_and_previews_are_heard_in_order(pipeline: FakePipeline) -> None:
    heard: list[Event] = []
    async with running(pipeline) as engine:
        await ask(engine, pipeline, n=2, steps=8, previews=3, on_event=heard.append)
        await asyncio.sleep(0)
    progress = [event for event in heard if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(17))
    assert {event.total for event in progress} == {16}
    previews = [event for event in heard if isinstance(event, Preview)]
    for index in (0, 1):
        shown = [event for event in previews if event.image_index == index]
        assert [event.number for event in shown] == [0, 1, 2]
        masked = [event.image.tobytes()[0] for event in shown]
        assert 64 > masked[0] > masked[1] > masked[2] > 0


async def test_two_workers_share_the_work(pipeline: FakePipeline) -> None:
    gate, others = Gate(), FakePipeline()
    copies = iter([pipeline, others])
    pipeline.fake.during = others.fake.during = gate
    async with running(
        pipeline, devices=("cpu", "cpu"), load=lambda name, device: next(copies)
    ) as engine:
        tasks = [ask(engine, pipeline, f"cat {i}", steps=2, seed=i) for i in range(8)]
        await until(lambda: bool(pipeline.fake.batches and others.fake.batches))
        gate.opened.set()
        for task in tasks:
            drawn = await task
            assert drawn.images[0].tobytes() == pipeline.draw(drawn.request, 0).tobytes()
        assert engine.stats().ready_workers == 2
