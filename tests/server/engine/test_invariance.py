"""Through the engine every request comes out to the byte as if it were alone."""

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.worlds.native import PROMPT, write_native
from tests.worlds.published import write_amused
from tests.worlds.server import FakeSource, until
from unmask.editing import inpaint, outpaint, revise, variation
from unmask.pipeline import DrawRequest, Pipeline
from unmask.sampling.schedulers import SCHEDULERS
from unmask.server.engine.engine import Engine, EngineOptions

PROMPTS = (PROMPT, "two blue squares", "a red circle and two blue squares", "blue")


@pytest.fixture(name="pipeline", scope="module")
def _pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(write_native(tmp_path_factory.mktemp("tiny")))


def _any_request(pipeline: Pipeline, chance: random.Random) -> DrawRequest:
    options: dict[str, object] = {
        "scheduler": chance.choice(sorted(SCHEDULERS)),
        "steps": chance.randint(1, 9),
        "guidance_scale": chance.choice([1.0, 2.0, 3.5]),
        "temperature": chance.choice([0.0, 0.5, 1.0]),
    }
    if options["guidance_scale"] != 1.0:
        options |= chance.choice(
            [
                {"guidance": "constant"},
                {"guidance": "linear"},
                {"guidance": "interval", "guidance_interval": (0.2, 0.7)},
                {"reuse_policy": "carried-null", "null_every": chance.choice([2, 3])},
            ]
        )
    extras: list[dict[str, object]] = [{}, {"noise_regularisation": 1.0}]
    if options["scheduler"] != "remdm-conf" and "reuse_policy" not in options:
        extras += [{"reuse": 1, "reuse_after": 0.0}, {"reuse": 3}]
    if options["scheduler"] in ("halton", "confidence", "random", "margin", "entropy", "uncage"):
        extras += [{"count_rule": "entropy"}, {"differential": 0.5}]
        extras += [] if "reuse_policy" in options else [{"zigzag": True}]
    options |= chance.choice(extras)
    pixels = np.random.default_rng(chance.randrange(99)).integers(0, 256, (9, 13, 3), np.uint8)
    picture, mask = Image.fromarray(pixels), Image.new("L", (13, 9))
    mask.paste(255, (2, 3, 9, 8))
    edit = chance.choice(
        [None] * 8 + [inpaint(picture, mask), outpaint(picture, left=5), variation(picture, 0.5)]
    )
    if edit is None and chance.random() < 0.05:
        edit, options = revise(picture, 0.5), {"steps": chance.randint(1, 9)}
    return pipeline.request(
        chance.choice(PROMPTS),
        seed=chance.randrange(2**63),
        n=chance.choice([1, 1, 1, 2, 3]),
        edit=edit,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize(("devices", "pad"), [(("cpu",), True), (("cpu", "cpu"), False)])
async def test_a_thousand_requests_of_every_kind(
    pipeline: Pipeline, devices: tuple[str, ...], pad: bool
) -> None:
    chance = random.Random(len(devices))
    requests = [_any_request(pipeline, chance) for _ in range(500)]
    options = EngineOptions(("tiny",), devices, max_queue=1000, max_rows=16, step_rows=16, pad=pad)
    engine = Engine(options, FakeSource(lambda key, device: pipeline))
    engine.start()
    await until(lambda: engine.stats().ready_workers == len(devices))

    model = await engine.open()

    async def drawn(request: DrawRequest) -> list[bytes]:
        await asyncio.sleep(chance.random())
        result = await engine.submit(await engine.weigh(request, model))
        return [image.tobytes() for image in result.images]

    together = await asyncio.gather(*map(drawn, requests))
    stats = engine.stats()
    await engine.stop()
    for request, found in zip(requests, together, strict=True):
        assert found == [image.tobytes() for image in pipeline.run(request).images]
    assert stats.rows_per_step > 2  # so they did share batches
    assert (stats.padding > 0) == pad


@pytest.mark.anyio
async def test_prompts_of_any_length_share_an_engine(tmp_path: Path) -> None:
    """Rows whose conditions differ in length cannot be in one batch."""
    write_amused(tmp_path, down_up=False)
    pipeline = Pipeline.load(tmp_path)
    extras: list[dict[str, Any]] = [{"reuse": 1, "reuse_after": 0.0}, {"guidance_scale": 1.0}, {}]
    given: dict[str, Any] = {"n": 2, "steps": 3, "long_prompt": True, "scheduler": "halton"}
    requests = [
        pipeline.request(prompt, seed=seed, **given, **extra)
        for seed, prompt in enumerate(["a cat", "x" * 90, "x" * 170, "x" * 100])
        for extra in extras
    ]
    options = EngineOptions(("tiny",), ("cpu",), max_rows=16, step_rows=16, pad=True)
    engine = Engine(options, FakeSource(lambda key, device: pipeline))
    engine.start()
    await until(lambda: engine.stats().ready_workers == 1)
    model = await engine.open()

    async def drawn(request: DrawRequest) -> list[bytes]:
        result = await engine.submit(await engine.weigh(request, model))
        return [image.tobytes() for image in result.images]

    together = await asyncio.gather(*map(drawn, requests))
    stats = engine.stats()
    await engine.stop()
    assert together == [
        [image.tobytes() for image in pipeline.run(request).images] for request in requests
    ]
    assert stats.rows_per_step > 2
