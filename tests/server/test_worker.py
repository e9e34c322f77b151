import asyncio
import threading
from collections.abc import Callable, Coroutine

import pytest

from unmask.errors import RequestError, UnavailableError
from unmask.server.engine import QueueFullError
from unmask.server.worker import Worker


def _running(
    pipeline, scenario: Callable[[Worker], Coroutine[None, None, None]], max_queue: int = 4
) -> None:
    """Run a scenario with a worker that has loaded the pipeline."""

    async def main() -> None:
        worker = Worker(lambda: pipeline, max_queue)
        worker.start()
        await _soon(lambda: _reason(worker) is None)
        try:
            await scenario(worker)
        finally:
            await worker.stop()

    asyncio.run(main())


async def _soon(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def _reason(worker: Worker) -> str | None:
    """Why there is no model; None if there is one."""
    try:
        worker.model()
    except UnavailableError as error:
        return str(error)
    return None


def _prompts(pipeline) -> list[str]:
    return [request.prompt for request in pipeline.drawn]


def test_requests_are_drawn_in_the_order_of_their_arrival(pipeline):
    async def scenario(worker):
        prompts = [f"prompt {i}" for i in range(6)]
        await asyncio.gather(*(worker.submit(pipeline.request(prompt)) for prompt in prompts))
        assert _prompts(pipeline) == prompts

    _running(pipeline, scenario, max_queue=8)


def test_a_full_queue_refuses_at_the_door(pipeline, gate):
    pipeline.during = gate

    async def scenario(worker):
        running = asyncio.create_task(worker.submit(pipeline.request("first")))
        await _soon(gate.entered.is_set)
        waiting = [asyncio.create_task(worker.submit(pipeline.request("x"))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError) as caught:
            await worker.submit(pipeline.request("one too many"))
        assert caught.value.retry_after >= 1
        gate.opened.set()
        await asyncio.gather(running, *waiting)

    _running(pipeline, scenario, max_queue=2)


def test_a_request_whose_client_left_is_skipped(pipeline, gate):
    pipeline.during = gate

    async def scenario(worker):
        jobs = {
            name: asyncio.create_task(worker.submit(pipeline.request(name)))
            for name in ("first", "gone", "stays")
        }
        await _soon(gate.entered.is_set)
        jobs["gone"].cancel()
        await asyncio.sleep(0.01)
        gate.opened.set()
        await asyncio.gather(jobs["first"], jobs["stays"])
        assert _prompts(pipeline) == ["first", "stays"]

    _running(pipeline, scenario)


@pytest.mark.parametrize("error", [RuntimeError("boom"), RequestError("bad", "prompt")])
def test_a_failing_request_fails_alone(pipeline, error):
    def fail_the_bad(step: int) -> None:
        if pipeline.drawn[-1].prompt == "bad":
            raise error

    pipeline.during = fail_the_bad

    async def scenario(worker):
        results = await asyncio.gather(
            *(worker.submit(pipeline.request(prompt)) for prompt in ("good", "bad", "fine")),
            return_exceptions=True,
        )
        assert results[1] is error
        assert [len(results[i].images) for i in (0, 2)] == [1, 1]

    _running(pipeline, scenario)


def test_when_the_thread_dies_every_waiter_hears_of_it(pipeline, gate):
    def die(step: int) -> None:
        gate(step)
        raise SystemExit

    pipeline.during = die

    async def scenario(worker):
        jobs = [asyncio.create_task(worker.submit(pipeline.request("x"))) for _ in range(3)]
        await _soon(gate.entered.is_set)
        gate.opened.set()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(result) for result in results] == [UnavailableError] * 3
        await _soon(lambda: "died" in (_reason(worker) or ""))
        with pytest.raises(UnavailableError, match="died"):
            await worker.submit(pipeline.request("too late"))

    _running(pipeline, scenario)


def test_stopping_fails_whatever_waits_or_runs(pipeline, gate):
    pipeline.during = gate

    async def scenario(worker):
        jobs = [asyncio.create_task(worker.submit(pipeline.request("x"))) for _ in range(3)]
        await _soon(gate.entered.is_set)
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0.05)
        gate.opened.set()
        await stopping
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(result) for result in results] == [UnavailableError] * 3

    _running(pipeline, scenario)


def test_before_the_model_is_loaded_requests_are_told_to_wait(pipeline):
    release = threading.Event()

    def load():
        release.wait(10)
        return pipeline

    async def scenario() -> None:
        worker = Worker(load, 2)
        worker.start()
        assert "loading" in (_reason(worker) or "")
        release.set()
        await _soon(lambda: _reason(worker) is None)
        await worker.stop()

    asyncio.run(scenario())


def test_a_model_that_cannot_be_loaded_is_told_without_its_paths():
    def load():
        raise OSError("/secret/path is missing")

    async def scenario() -> None:
        worker = Worker(load, 2)
        worker.start()
        await _soon(lambda: "could not be loaded" in (_reason(worker) or ""))
        assert "secret" not in (_reason(worker) or "")
        await worker.stop()

    asyncio.run(scenario())
