"""The engine around a pipeline that draws at once and on command."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
import torch

from tests.server.conftest import FakePipeline, Gate
from unmask.errors import DrawingError, NotFoundError, UnavailableError
from unmask.server.engine.engine import Engine, EngineOptions, QueueFullError
from unmask.server.engine.tickets import Preview, Priority, Progress
from unmask.server.engine.worker import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@contextlib.asynccontextmanager
async def running(pipeline, **options) -> AsyncIterator[Engine]:
    models = options.pop("models", (pipeline.info.name,))
    load = options.pop("load", lambda name, device: pipeline)
    engine = Engine(EngineOptions(models=models, **options), load)
    engine.start()
    while engine._reason == "the model is still loading":
        await asyncio.sleep(0.002)
    try:
        yield engine
    finally:
        await engine.stop()


def ask(engine, pipeline, prompt="cat", n=1, steps=3, seed=1, **options) -> asyncio.Task:
    request = pipeline.request(prompt, n=n, steps=steps, seed=seed)
    return asyncio.create_task(engine.submit(request, pipeline, **options))


async def entered(gate):
    assert await asyncio.to_thread(gate.entered.wait, 10)


async def waiting(engine, count):
    while len(engine.queue) < count:
        await asyncio.sleep(0.002)


async def test_requests_share_batches_and_come_and_go_between_steps(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
    async with running(pipeline) as engine:
        first = ask(engine, pipeline, "long", steps=6)
        await entered(gate)
        second = ask(engine, pipeline, "short", steps=2)
        await waiting(engine, 1)
        gate.opened.set()
        await asyncio.gather(first, second)
    assert pipeline.backbone.batches == [["long"], *[["long", "short"]] * 2, *[["long"]] * 3]


async def test_images_are_what_was_asked_for(pipeline):
    async with running(pipeline) as engine:
        tasks = [ask(engine, pipeline, f"cat {i}", n=1 + i % 3, seed=i) for i in range(10)]
        for task in tasks:
            drawn = await task
            expected = [pipeline.draw(drawn.request, i) for i in range(drawn.request.n)]
            assert [a.tobytes() for a in drawn.images] == [b.tobytes() for b in expected]
        assert engine.stats().finished == 10
        assert engine.stats().running == engine.stats().queued == 0


async def test_no_more_rows_than_allowed_run_at_a_time(pipeline):
    async with running(pipeline, max_rows=3) as engine:
        await asyncio.gather(*(ask(engine, pipeline, n=4, seed=i) for i in range(4)))
    assert max(map(len, pipeline.backbone.batches)) == 3


async def test_a_lower_priority_and_a_greedy_key_wait(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
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
    order = [batch[0] for batch in pipeline.backbone.batches]
    # High counted as a turn of a, so b comes before a.
    assert order == ["first", "high", "b1", "a1", "a2", "low"]


async def test_a_full_queue_refuses_and_forgets_those_who_left(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
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


async def test_more_than_can_be_done_in_time_is_refused(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
    async with running(pipeline, max_wait_seconds=1.0) as engine:
        engine.figures._rate = 100.0  # 64 tokens x 3 steps are two seconds
        first = ask(engine, pipeline)
        await entered(gate)
        with pytest.raises(QueueFullError, match="will take 2 s"):
            await ask(engine, pipeline)
        gate.opened.set()
        await first
        await ask(engine, pipeline)


async def test_a_request_given_up_leaves_at_the_next_step(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
    async with running(pipeline) as engine:
        left = ask(engine, pipeline, "left", steps=50)
        await entered(gate)
        left.cancel()
        await asyncio.wait({left})
        stays = ask(engine, pipeline, "stays", steps=3)
        await waiting(engine, 1)
        gate.opened.set()
        await stays
    assert pipeline.backbone.batches == [["left"], *[["stays"]] * 3]


async def test_a_request_that_takes_too_long_is_given_up(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
    async with running(pipeline) as engine:
        with pytest.raises(TimeoutError, match="not done within"):
            await ask(engine, pipeline, steps=50, timeout=0.05)
        gate.opened.set()
        await ask(engine, pipeline, steps=1)
    assert len(pipeline.backbone.batches) == 2


async def test_a_poisoned_row_fails_alone_and_changes_no_neighbour(pipeline):
    def during(prompts):
        if "bad" in prompts:
            raise ValueError("poison")

    pipeline.backbone.during = during
    gate = Gate()
    async with running(pipeline) as engine:
        pipeline.backbone.during = gate
        first = ask(engine, pipeline, "first", steps=1)
        await entered(gate)
        prompts = ["good", "fine", "bad", "well", "sound"]
        tasks = [ask(engine, pipeline, prompt) for prompt in prompts]
        await waiting(engine, len(prompts))
        pipeline.backbone.during = during
        gate.opened.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await first
    assert isinstance(results.pop(2), ValueError)
    for result in results:
        assert result.images[0].tobytes() == pipeline.draw(result.request, 0).tobytes()


async def test_logits_that_are_no_numbers_fail_their_request_alone(pipeline):
    full = pipeline.backbone.full

    def poisoned(tokens, prefix, *, left, keep, attend):
        made = full(tokens, prefix, left=left, keep=keep, attend=attend)
        for row, prompt in enumerate(prefix.prompts):
            if prompt == "bad":
                made.logits[row, 5, 0] = float("nan")
        return made

    pipeline.backbone.full = poisoned
    async with running(pipeline) as engine:
        results = await asyncio.gather(
            *(ask(engine, pipeline, prompt) for prompt in ("good", "bad", "fine")),
            return_exceptions=True,
        )
    assert isinstance(results[1], DrawingError)
    assert [result.request.prompt for result in (results[0], results[2])] == ["good", "fine"]


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
async def test_out_of_memory_halves_the_batch_and_goes_on(pipeline, kind):
    def during(prompts):
        if len(prompts) > 3:
            raise kind("no more")

    pipeline.backbone.during = during
    async with running(pipeline, max_rows=12) as engine:
        results = await asyncio.gather(*(ask(engine, pipeline, n=6, seed=i) for i in range(4)))
        assert all(len(result.images) == 6 for result in results)
        assert engine.workers["worker-0"].max_rows <= 3
        assert engine.stats().failed == 0


async def test_a_drawing_that_fails_fails_alone(pipeline):
    draw = pipeline.draw

    def failing(request, index):
        if request.prompt == "bad":
            raise OSError("decoder")
        return draw(request, index)

    pipeline.draw = failing
    async with running(pipeline) as engine:
        results = await asyncio.gather(
            *(ask(engine, pipeline, prompt) for prompt in ("good", "bad")), return_exceptions=True
        )
    assert isinstance(results[1], OSError)
    assert results[0].request.prompt == "good"


METHODS = (
    "sweep", "collect", "admit", "groups", "advance", "finish", "resume", "received", "leave",
    "prefix", "rest",
)  # fmt: skip


@pytest.mark.parametrize("point", METHODS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_worker_killed_at_any_point_leaves_nobody_waiting(
    pipeline, monkeypatch, point, after
):
    """And is replaced: what is asked then is drawn."""
    original, kills = getattr(Worker, point), []

    def killing(self, *arguments):
        armed = not kills and pipeline.backbone.batches
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
        while not kills:  # rest comes only when there is nothing to do
            await asyncio.sleep(0.002)
        for task in done:
            error = task.exception()
            assert error is None or (isinstance(error, UnavailableError) and "died" in str(error))
        while True:
            with contextlib.suppress(UnavailableError):
                await ask(engine, pipeline, "after")
                break
            await asyncio.sleep(0.002)
        assert engine.stats().deaths == 1


async def test_a_worker_that_stays_dead_makes_the_engine_unready(pipeline):
    def during(prompts):
        raise SystemExit

    pipeline.backbone.during = during
    async with running(pipeline, on_death="stay", max_rows=1) as engine:
        results = await asyncio.gather(
            *(ask(engine, pipeline, seed=i) for i in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, UnavailableError) for result in results)
        with pytest.raises(UnavailableError, match="died"):
            engine.ready()
        with pytest.raises(UnavailableError, match="died"):
            await ask(engine, pipeline)


async def test_a_worker_that_dies_again_and_again_is_left_dead(pipeline):
    def during(prompts):
        raise SystemExit

    pipeline.backbone.during = during
    async with running(pipeline) as engine:
        deaths = 0
        while engine.workers:
            with pytest.raises(UnavailableError):
                await ask(engine, pipeline)
            deaths += 1
            await asyncio.sleep(0.002)
        assert deaths > 5
        assert engine.stats().deaths == 6
        with pytest.raises(UnavailableError, match="died"):
            engine.ready()


async def test_the_process_is_told_to_end_if_so_set(pipeline, monkeypatch):
    signals = []
    monkeypatch.setattr("os.kill", lambda process, signal: signals.append(signal.name))

    def during(prompts):
        raise SystemExit

    pipeline.backbone.during = during
    async with running(pipeline, on_death="exit") as engine:
        with pytest.raises(UnavailableError, match="died"):
            await ask(engine, pipeline)
        while not signals:
            await asyncio.sleep(0.002)
        assert signals == ["SIGTERM"]


async def test_stopping_fails_those_who_wait_and_the_one_being_drawn(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
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
    assert len(pipeline.backbone.batches) == 1


async def test_a_request_that_is_weighed_while_the_engine_stops_is_refused(pipeline, monkeypatch):
    gate = Gate()

    def weigh(pipeline, request):
        gate([])
        return 1.0, 1

    monkeypatch.setattr("unmask.server.engine.engine._cost", weigh)
    async with running(pipeline) as engine:
        task = ask(engine, pipeline)
        await entered(gate)
        await engine.stop()
        gate.opened.set()
        async with asyncio.timeout(10):
            with pytest.raises(UnavailableError, match="stopping"):
                await task


async def test_draining_takes_nothing_new_and_finishes_what_is_there(pipeline):
    gate = Gate()
    pipeline.backbone.during = gate
    async with running(pipeline) as engine:
        task = ask(engine, pipeline)
        await entered(gate)
        assert not await engine.drain(0.05)
        with pytest.raises(UnavailableError, match="stopping"):
            await ask(engine, pipeline)
        gate.opened.set()
        assert await engine.drain(10)
        assert (await task).images


async def test_stopping_while_loading_never_becomes_ready(pipeline):
    loaded = threading.Event()
    options = EngineOptions(models=(pipeline.info.name,))
    engine = Engine(options, lambda name, device: loaded.wait(10) and pipeline)
    engine.start()
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(engine.stop())
    await asyncio.sleep(0.01)
    loaded.set()
    await stopping
    with pytest.raises(UnavailableError, match="stopping"):
        engine.ready()
    assert engine.workers == {}


async def test_a_model_that_cannot_be_loaded_is_told_without_its_text(pipeline):
    def load(name, device):
        raise OSError("/secret/path")

    async with running(pipeline, load=load) as engine:
        with pytest.raises(UnavailableError, match="could not be loaded") as caught:
            engine.ready()
        assert "secret" not in str(caught.value)


async def test_progress_and_previews_are_heard_in_order(pipeline):
    heard = []
    async with running(pipeline) as engine:
        await ask(engine, pipeline, n=2, steps=8, previews=3, on_event=heard.append)
        await asyncio.sleep(0)
    progress = [event for event in heard if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(17))
    assert {event.total for event in progress} == {16}
    previews = [event for event in heard if isinstance(event, Preview)]
    for index in (0, 1):
        own = [event for event in previews if event.image_index == index]
        assert [event.number for event in own] == [0, 1, 2]
        masked = [event.image.getpixel((0, 0))[0] for event in own]
        assert 64 > masked[0] > masked[1] > masked[2] > 0


async def test_two_workers_share_the_work(pipeline):
    gate, others = Gate(), FakePipeline()
    copies = iter([pipeline, others])
    pipeline.backbone.during = others.backbone.during = gate
    async with running(
        pipeline, devices=("cpu", "cpu"), load=lambda name, device: next(copies)
    ) as engine:
        tasks = [ask(engine, pipeline, f"cat {i}", steps=2, seed=i) for i in range(8)]
        while not (pipeline.backbone.batches and others.backbone.batches):
            await asyncio.sleep(0.002)
        gate.opened.set()
        for task in tasks:
            drawn = await task
            assert drawn.images[0].tobytes() == pipeline.draw(drawn.request, 0).tobytes()
        assert engine.stats().ready_workers == 2


async def test_models_share_an_engine_and_the_one_that_rests_makes_room(pipeline):
    loads = []

    def load(name, device):
        loads.append(name)
        return FakePipeline(name)

    # Each weighs 100 bytes: there is room for two.
    async with running(
        pipeline, models=("one", "two", "three"), load=load, memory_bytes=250
    ) as engine:
        assert [info.name for info in engine.infos] == ["one", "two", "three"]
        assert sorted(engine.stats().models) == ["one", "two"]
        for name in ("three", "one"):
            model = await engine.open(name)
            await ask(engine, model)
        assert sorted(engine.stats().models) == ["one", "three"]
        assert (await engine.open()).info.name == "one"
        with pytest.raises(NotFoundError, match="did you mean 'three'"):
            await engine.open("tree")
    assert loads == ["three", "two", "one", "three"]


async def test_an_unknown_model_is_told_the_names_and_no_folders(pipeline):
    def load(name, device):
        return FakePipeline(name.rpartition("/")[2])

    async with running(
        pipeline, models=("/srv/one", "/srv/two"), load=load, memory_bytes=150
    ) as engine:
        with pytest.raises(NotFoundError) as raised:
            await engine.open("three")
        assert "one, two" in str(raised.value)
        assert "/srv" not in str(raised.value)
        assert (await engine.open("two")).info.name == "two"


async def test_a_model_in_use_is_not_put_away(pipeline):
    gate, made = Gate(), {}

    def load(name, device):
        made[name] = FakePipeline(name)
        made[name].backbone.during = gate
        return made[name]

    async with running(pipeline, models=("one", "two"), load=load, memory_bytes=150) as engine:
        task = ask(engine, await engine.open("one"))
        await entered(gate)
        with pytest.raises(UnavailableError, match="leave less"):
            await engine.open("two")
        gate.opened.set()
        await task
        assert (await engine.open("two")).info.name == "two"
