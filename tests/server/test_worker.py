import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from unmask.errors import UnavailableError
from unmask.server.engine import QueueFullError
from unmask.server.worker import Worker

URL = "/v1/images/generations"


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def started(pipeline, max_queue=4):
    worker = Worker(lambda: pipeline, max_queue)
    worker.start()
    while True:
        try:
            worker.model()
        except UnavailableError:
            await asyncio.sleep(0.005)
        else:
            return worker


async def submit(worker, pipeline, prompt):
    task = asyncio.create_task(worker.submit(pipeline.request(prompt, seed=1, steps=3)))
    await asyncio.sleep(0)  # so that it stands in the queue
    return task


async def entered(gate):
    assert await asyncio.to_thread(gate.entered.wait, 10)


@pytest.mark.anyio
async def test_requests_are_drawn_in_the_order_they_came(pipeline):
    worker = await started(pipeline)
    tasks = [await submit(worker, pipeline, prompt) for prompt in "abc"]
    assert [(await task).request.prompt for task in tasks] == ["a", "b", "c"]
    await worker.stop()


@pytest.mark.anyio
async def test_a_full_queue_refuses_and_forgets_those_who_left(pipeline, gate):
    worker = await started(pipeline, max_queue=1)
    pipeline.during = gate
    running = await submit(worker, pipeline, "running")
    await entered(gate)
    waiting = await submit(worker, pipeline, "waiting")
    with pytest.raises(QueueFullError) as refusal:
        await worker.submit(pipeline.request("refused"))
    assert 1 <= refusal.value.retry_after <= 60
    waiting.cancel()
    await asyncio.wait({waiting})
    taken = await submit(worker, pipeline, "taken")
    gate.opened.set()
    await running
    await taken
    assert [request.prompt for request in pipeline.drawn] == ["running", "taken"]
    await worker.stop()


@pytest.mark.anyio
async def test_a_failing_request_fails_alone(pipeline):
    def during(step):
        if pipeline.drawn[-1].prompt == "bad":
            raise MemoryError("too much")

    worker = await started(pipeline)
    pipeline.during = during
    tasks = [await submit(worker, pipeline, prompt) for prompt in ("good", "bad", "fine")]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], MemoryError)
    assert [results[i].request.prompt for i in (0, 2)] == ["good", "fine"]
    await worker.stop()


@pytest.mark.anyio
async def test_a_request_given_up_stops_at_the_next_step(pipeline, gate):
    steps = []

    def during(step):
        steps.append(pipeline.drawn[-1].prompt)
        gate(step)

    worker = await started(pipeline)
    pipeline.during = during
    running = await submit(worker, pipeline, "left")
    await entered(gate)
    running.cancel()
    after = await submit(worker, pipeline, "next")
    gate.opened.set()
    await after
    assert steps == ["left", "next", "next", "next"]
    await worker.stop()


@pytest.mark.anyio
async def test_stopping_fails_those_who_wait_and_the_one_being_drawn(pipeline, gate):
    worker = await started(pipeline)
    pipeline.during = gate
    tasks = [await submit(worker, pipeline, prompt) for prompt in "abc"]
    await entered(gate)
    stopping = asyncio.create_task(worker.stop())
    with pytest.raises(UnavailableError, match="stopping"):
        await tasks[2]
    gate.opened.set()
    await stopping
    for task in tasks:
        with pytest.raises(UnavailableError, match="stopping"):
            await task
    with pytest.raises(UnavailableError, match="stopping"):
        await worker.submit(pipeline.request("late"))
    assert len(pipeline.drawn) == 1


@pytest.mark.anyio
async def test_stopping_while_loading_never_becomes_ready(pipeline):
    loaded = threading.Event()
    worker = Worker(lambda: loaded.wait(10) and pipeline, 1)
    worker.start()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.01)
    loaded.set()
    await stopping
    with pytest.raises(UnavailableError, match="stopping"):
        worker.model()


@pytest.mark.anyio
@pytest.mark.parametrize("death", [SystemExit, KeyboardInterrupt])
async def test_a_death_fails_all_who_wait(pipeline, gate, death):
    def during(step):
        gate(step)
        raise death

    worker = await started(pipeline)
    pipeline.during = during
    tasks = [await submit(worker, pipeline, prompt) for prompt in "abc"]
    await entered(gate)
    gate.opened.set()
    for task in tasks:
        with pytest.raises(UnavailableError, match="died"):
            await task
    with pytest.raises(UnavailableError, match="died"):
        await worker.submit(pipeline.request("late"))
    assert len(pipeline.drawn) == 1
    await worker.stop()


def test_a_death_is_seen_by_clients_and_probes(client, pipeline, gate, until, fault):
    def during(step):
        gate(step)
        raise SystemExit

    pipeline.during = during
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(client.post, URL, json={"prompt": "cat"}) for _ in range(4)]
        assert gate.entered.wait(10)
        gate.opened.set()
        for answer in answers:
            assert "died" in fault(answer.result(10), 503)["message"]
    until(lambda: client.get("/readyz").status_code == 503)
    assert "died" in fault(client.get("/readyz"), 503)["message"]
    assert client.get("/livez").status_code == 200
    fault(client.post(URL, json={"prompt": "cat"}), 503)
