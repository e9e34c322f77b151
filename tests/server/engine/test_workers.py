"""Workers in real weather."""

import asyncio
import time
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.worlds.server import FakePipeline, Gate, Prompts, ask, running, until
from unmask.errors import DeviceError, UnavailableError
from unmask.pipeline import DrawRequest
from unmask.server.engine.tickets import Preview
from unmask.server.engine.worker import Worker

pytestmark = pytest.mark.anyio


def _poisoned_preview(pipeline: FakePipeline) -> None:
    preview = pipeline.preview

    def poisoned(tokens: Tensor, size: tuple[int, int] | None = None) -> Image.Image:
        if pipeline.fake.batches[-1] == ["bad"] or "bad" in pipeline.fake.batches[-1]:
            pipeline.preview = preview  # type: ignore[method-assign]
            raise OSError("no preview")
        return preview(tokens, size)

    pipeline.preview = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize("finisher", [False, True])
async def test_a_preview_that_fails_harms_its_request_alone(
    pipeline: FakePipeline, finisher: bool
) -> None:
    _poisoned_preview(pipeline)
    async with running(pipeline, finisher=finisher) as engine:
        bad = ask(engine, pipeline, "bad", steps=8, previews=1)
        good = ask(engine, pipeline, "good", steps=8)
        with pytest.raises(OSError, match="no preview"):
            await bad
        assert (await good).images
        assert engine.stats().deaths == 0


async def test_free_room_decides_who_takes_a_request(pipeline: FakePipeline) -> None:
    copies = [pipeline, FakePipeline()]
    gate = Gate()
    loads = iter(copies)
    async with running(
        pipeline,
        devices=("cpu", "cpu"),
        load=lambda key, device: next(loads),
        max_rows=8,
        step_rows=8,
    ) as engine:
        engine.workers["worker-0"].max_rows = 1  # as lack of memory leaves it
        for copy in copies:
            copy.fake.during = gate
        tasks = [ask(engine, pipeline, f"cat {i}", seed=i, steps=1) for i in range(8)]
        await until(lambda: bool(pipeline.fake.batches or copies[1].fake.batches))
        gate.opened.set()
        await asyncio.gather(*tasks)
    assert max(map(len, copies[1].fake.batches)) > 3


@pytest.mark.parametrize("waiting", [0, 3])
async def test_a_worker_whose_rows_are_all_being_finished_rests(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, waiting: int
) -> None:
    ticks = 0
    tick = Worker.tick

    def counted(worker: Worker) -> None:
        nonlocal ticks
        ticks += 1
        tick(worker)

    def slow(request: DrawRequest, index: int) -> Image.Image:
        time.sleep(0.1)
        return Image.new("RGB", request.size)

    monkeypatch.setattr(Worker, "tick", counted)
    pipeline.draw = slow  # type: ignore[method-assign]
    async with running(pipeline, finisher=True, max_rows=1) as engine:
        tasks = [ask(engine, pipeline, steps=2, seed=i) for i in range(1 + waiting)]
        await asyncio.gather(*tasks)
    assert ticks < 15 * (1 + waiting)


async def test_a_finished_row_does_not_wait_for_a_nap(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.server.engine.worker.NAP_SECONDS", 5.0)
    async with running(pipeline, finisher=True) as engine:
        began = time.monotonic()
        for seed in range(50):
            await ask(engine, pipeline, steps=1, seed=seed)
        assert time.monotonic() - began < 4


async def test_with_a_finisher_pictures_are_the_same_and_previews_come_before_them(
    pipeline: FakePipeline,
) -> None:
    heard: list[Any] = []
    async with running(pipeline, finisher=True, max_rows=4, pad=True) as engine:
        drawn = await asyncio.gather(
            *(
                ask(engine, pipeline, f"cat {i}", n=3, seed=i, previews=2, on_event=heard.append)
                for i in range(6)
            )
        )
    for result in drawn:
        expected = [pipeline.draw(result.request, index) for index in range(3)]
        assert [a.tobytes() for a in result.images] == [b.tobytes() for b in expected]
    assert sum(isinstance(event, Preview) for event in heard) == 6 * 3 * 2


DEVICE_ERRORS = [
    DeviceError("lost"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
    RuntimeError("CUDA error: device-side assert triggered"),
]


@pytest.mark.parametrize("error", DEVICE_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["step", "encode", "draw", "finisher"])
async def test_a_device_that_fails_takes_its_worker_with_it(
    pipeline: FakePipeline, error: Exception, place: str
) -> None:
    broken = True

    def fail(*_: object) -> None:
        if broken:
            raise error

    encode, draw = pipeline.encode_prompts, pipeline.draw
    if place == "step":
        pipeline.fake.during = fail
    elif place == "encode":
        pipeline.encode_prompts = lambda prompts, chunks: fail() or encode(prompts)  # type: ignore
    else:
        pipeline.draw = lambda request, index: fail() or draw(request, index)  # type: ignore
    async with running(pipeline, finisher=place == "finisher") as engine:
        with pytest.raises(UnavailableError, match="DeviceError"):
            await ask(engine, pipeline)
        broken = False
        assert engine.stats().deaths == 1
        assert (await ask(engine, pipeline)).images


async def test_two_models_at_once_join_their_prefixes_once(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(
        pipeline, models=("one", "two"), load=lambda key, device: FakePipeline(key)
    ) as engine:
        opened = [await engine.open(name) for name in ("one", "two")]
        gate = Gate()
        for model in opened:
            model.pipeline.fake.during = gate  # type: ignore[attr-defined]
        tasks = [
            ask(engine, model.pipeline, model=model.key, steps=40) for model in opened for _ in "ab"
        ]
        monkeypatch.setattr(Prompts, "joins", 0)
        gate.opened.set()
        await asyncio.gather(*tasks)
    assert Prompts.joins < 30


async def test_workers_may_die_while_others_look_for_room(pipeline: FakePipeline) -> None:
    async with running(pipeline, devices=("cpu",) * 3, load=lambda *_: FakePipeline()) as engine:

        def die() -> None:
            raise SystemExit

        for _ in range(4):
            tasks = [ask(engine, pipeline, seed=i, steps=2) for i in range(12)]
            next(iter(engine.workers.values())).sweep = die  # type: ignore[method-assign]
            engine.queue.wake()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(
                isinstance(result, UnavailableError) or hasattr(result, "images")
                for result in results
            )
        await until(lambda: engine.stats().deaths == 4)
        assert engine.stats().ready_workers == 3
