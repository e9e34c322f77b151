"""Models that come and go under an engine."""

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from tests.worlds.native import PROMPT, write_native
from tests.worlds.server import SECONDS, FakePipeline, FakeSource, Gate, ask, running, until
from unmask.errors import ConfigError, NotFoundError, UnavailableError
from unmask.pipeline import Pipeline
from unmask.server.engine import models
from unmask.server.engine.engine import Engine, EngineOptions, EngineState
from unmask.server.engine.status import ModelState

pytestmark = pytest.mark.anyio


def load_fake(key: str, device: str) -> FakePipeline:
    return FakePipeline(key.rpartition("/")[2])


def states(engine: Engine) -> dict[str, ModelState]:
    return {status.name: status.state for status in engine.models}


async def test_models_share_an_engine_and_the_one_that_rests_makes_room(
    pipeline: FakePipeline,
) -> None:
    loads = []

    def load(key: str, device: str) -> FakePipeline:
        loads.append(key)
        return FakePipeline(key)

    # Each weighs 100 bytes: there is room for two.
    async with running(
        pipeline, models=("one", "two", "three"), load=load, memory_bytes=250
    ) as engine:
        assert list(states(engine)) == ["one", "two", "three"]
        assert engine.stats().models == {"one": 100}
        for name in ("two", "three", "one"):
            opened = await engine.open(name)
            assert (await ask(engine, opened.pipeline, model=opened.key)).images
        assert engine.stats().models == {"one": 100, "three": 100}
        assert states(engine)["two"] is ModelState.ABSENT
        assert (await engine.open()).pipeline.info.name == "one"
        with pytest.raises(NotFoundError, match="did you mean 'three'"):
            await engine.open("tree")
    assert loads == ["one", "two", "three", "one"]


async def test_an_unknown_model_is_told_the_names_and_no_folders(pipeline: FakePipeline) -> None:
    async with running(pipeline, models=("/srv/one", "/srv/two"), load=load_fake) as engine:
        with pytest.raises(NotFoundError) as raised:
            await engine.open("three")
        assert "one, two" in str(raised.value)
        assert "/srv" not in str(raised.value)
        assert (await engine.open("two")).pipeline.info.name == "two"


async def test_a_model_in_use_is_not_put_away(pipeline: FakePipeline) -> None:
    gate = Gate()

    def load(key: str, device: str) -> FakePipeline:
        loaded = FakePipeline(key)
        loaded.fake.during = gate
        return loaded

    async with running(pipeline, models=("one", "two"), load=load, memory_bytes=150) as engine:
        one = await engine.open("one")
        task = ask(engine, one.pipeline, model="one")
        assert await asyncio.to_thread(gate.entered.wait, SECONDS)
        with pytest.raises(UnavailableError, match="leave less"):
            await engine.open("two")
        gate.opened.set()
        await task
        assert (await engine.open("two")).pipeline.info.name == "two"


async def test_two_models_of_one_name_are_refused(pipeline: FakePipeline) -> None:
    with pytest.raises(ConfigError, match="both named 'transformer'"):
        Engine(EngineOptions(models=("a/transformer", "b/transformer")), FakeSource(load_fake))
    # Of a hub's model the name is known only when it was loaded.
    load = lambda key, device: FakePipeline("one")  # noqa: E731
    async with running(pipeline, models=("one", "two"), load=load) as engine:
        with pytest.raises(UnavailableError, match="ConfigError"):
            await engine.open("two")
        assert (await engine.open("one")).key == "one"


async def test_a_model_that_was_put_away_is_freed(pipeline: FakePipeline) -> None:
    copies: weakref.WeakSet[FakePipeline] = weakref.WeakSet()

    def load(key: str, device: str) -> FakePipeline:
        loaded = FakePipeline(key)
        copies.add(loaded)
        return loaded

    async with running(
        pipeline, models=("one", "two"), load=load, memory_bytes=300, devices=("cpu", "cpu")
    ) as engine:
        opened = await engine.open("one")
        await asyncio.gather(
            *(ask(engine, opened.pipeline, n=4, model="one", seed=i) for i in range(8))
        )
        del opened
        await engine.open("two")
        await until(lambda: gc.collect() >= 0 and {copy.info.name for copy in copies} == {"two"})


def test_a_pipeline_is_freed_with_its_last_user_and_not_when_rubbish_is_collected(
    tmp_path: Path,
) -> None:
    gc.disable()
    try:
        pipeline = Pipeline.load(write_native(tmp_path))
        pipeline.generate(PROMPT, steps=1)
        kept = weakref.ref(pipeline.backbone)
        del pipeline
        assert kept() is None
    finally:
        gc.enable()


async def test_while_a_model_is_loaded_others_draw(pipeline: FakePipeline) -> None:
    begun, loaded = threading.Event(), threading.Event()

    def load(key: str, device: str) -> FakePipeline:
        if key == "two":
            begun.set()
            assert loaded.wait(SECONDS)
        return FakePipeline(key)

    async with running(pipeline, models=("one", "two"), load=load) as engine:
        opening = [asyncio.create_task(engine.open("two")) for _ in range(3)]
        assert await asyncio.to_thread(begun.wait, SECONDS)
        assert states(engine) == {"one": ModelState.LOADED, "two": ModelState.LOADING}
        one = await engine.open("one")
        assert (await ask(engine, one.pipeline)).images
        assert engine.stats().models == {"one": 100}
        loaded.set()
        assert {(await task).key for task in opening} == {"two"}


async def test_room_is_made_before_a_model_is_loaded(pipeline: FakePipeline) -> None:
    seen = []
    engines: list[Engine] = []

    def load(key: str, device: str) -> FakePipeline:
        if key == "two":
            seen.append(engines[0].stats().models)
        return FakePipeline(key)

    async with running(pipeline, models=("one", "two"), load=load, memory_bytes=150) as engine:
        engines.append(engine)
        await engine.open("two")
    assert seen == [{}]


async def test_a_model_that_is_larger_than_it_said_is_not_kept(pipeline: FakePipeline) -> None:
    class Understating(FakeSource):
        def size(self, key: str) -> int:
            return 1

    async with running(
        pipeline, models=("one", "two"), source=Understating(load_fake), memory_bytes=50
    ) as engine:
        assert engine.state is EngineState.FAILED
        assert engine.stats().models == {}


async def test_a_broken_model_harms_nobody_else_and_is_tried_again(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def load(key: str, device: str) -> FakePipeline:
        if key == "two" and broken:
            raise OSError("/secret/path")
        return FakePipeline(key)

    async with running(pipeline, models=("one", "two"), load=load) as engine:
        engine.ready()
        for message in ("OSError", "tried again .* in 30 s"):
            with pytest.raises(UnavailableError, match=message) as caught:
                await engine.open("two")
            assert "secret" not in str(caught.value)
        [one, two] = engine.models
        assert (one.state, two.state) == (ModelState.LOADED, ModelState.FAILED)
        assert "OSError" in two.reason
        broken = False
        clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 31)
        assert (await engine.open("two")).key == "two"


async def test_a_default_model_that_is_broken_is_tried_again_without_being_asked_for(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr("unmask.server.engine.engine.RETRY_SECONDS", 0.05)
    loads = 0

    def load(key: str, device: str) -> FakePipeline:
        nonlocal loads
        loads += 1
        if loads < 3:
            raise OSError("/secret/path")
        return pipeline

    async with running(pipeline, load=load) as engine:
        assert engine.state is EngineState.FAILED
        with pytest.raises(UnavailableError, match="could not be loaded") as caught:
            engine.ready()
        assert "secret" not in str(caught.value)
        await until(lambda: engine.state is EngineState.READY)
        assert (await ask(engine, pipeline)).images


async def test_a_model_whose_folder_cannot_be_read_is_listed_as_failed(
    pipeline: FakePipeline,
) -> None:
    class Partly(FakeSource):
        def name(self, key: str) -> str:
            if key == "/srv/two":
                raise ConfigError("/srv/two: no model.json")
            return super().name(key)

    async with running(pipeline, models=("one", "/srv/two"), source=Partly(load_fake)) as engine:
        engine.ready()
        assert states(engine) == {"one": ModelState.LOADED, "two": ModelState.FAILED}


async def test_a_request_whose_model_was_put_away_since_is_drawn(pipeline: FakePipeline) -> None:
    async with running(pipeline, models=("one", "two"), load=load_fake, memory_bytes=150) as engine:
        one = await engine.open("one")
        await engine.open("two")
        assert (await ask(engine, one.pipeline, model="one")).images
        assert engine.stats().models == {"one": 100}


async def test_stopping_while_loading_never_becomes_ready(pipeline: FakePipeline) -> None:
    begun, loaded = threading.Event(), threading.Event()

    def load(key: str, device: str) -> FakePipeline:
        begun.set()
        assert loaded.wait(SECONDS)
        return pipeline

    engine = Engine(EngineOptions(models=(pipeline.info.name,)), FakeSource(load))
    engine.start()
    assert await asyncio.to_thread(begun.wait, SECONDS)
    await engine.stop()
    loaded.set()
    with pytest.raises(UnavailableError, match="stopping"):
        engine.ready()
    assert engine.workers == {}
