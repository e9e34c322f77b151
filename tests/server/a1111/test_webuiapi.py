"""webuiapi as it is published, at a real server: draws, edits, looks on, interrupts, is refused."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image

from tests.worlds.server import FakePipeline, Gate, live_server, wait_until
from unmask.server.engine.engine import EngineState
from unmask.server.http.server import Server
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import load_settings

SIZE = {"width": 64, "height": 64}


@pytest.fixture(name="server")
def _server(pipeline: FakePipeline) -> Iterator[Server]:
    with live_server(lambda key, device: pipeline, requests_per_minute=40) as server:
        wait_until(lambda: server.engine.state is EngineState.READY)
        yield server


def client(server: Server, key: str | None = None) -> Any:
    return webuiapi.WebUIApi(
        port=server.bound_port, username="anyone" if key else None, password=key
    )


def test_it_draws_and_edits_with_a_mask(server: Server) -> None:
    api = client(server)
    drawn = api.txt2img(prompt="cat", seed=5, batch_size=2, **SIZE)
    assert [image.size for image in drawn.images] == [(64, 64)] * 2
    assert drawn.info["all_seeds"] == [5, 6]
    assert "'Euler a'" in drawn.info["notes"][0]
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 32))
    edited = api.img2img(images=[drawn.images[0]], mask_image=mask, prompt="dog", **SIZE)
    before, after = np.asarray(drawn.images[0]), np.asarray(edited.image)
    assert (before[32:] == after[32:]).all()
    assert (before[:32] != after[:32]).any()


def test_it_lists_and_chooses(server: Server) -> None:
    api = client(server)
    assert api.util_get_model_names() == [api.util_get_current_model()] == ["storybook"]
    api.util_set_model("storybook")
    assert "halton" in api.util_get_sampler_names()
    assert "cosine" in api.util_get_scheduler_names()
    assert api.refresh_checkpoints() == {}
    api.util_wait_for_ready()


@pytest.fixture(name="held")
def _held(pipeline: FakePipeline, gate: Gate) -> Gate:
    """Holds the backbone in the sixth pass."""
    passes = 0

    def during(prompts: list[str]) -> None:
        nonlocal passes
        passes += 1
        if passes > 5:
            gate(prompts)

    pipeline.fake.during = during
    return gate


def test_it_looks_on_and_interrupts(server: Server, held: Gate) -> None:
    api = client(server)
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(api.txt2img, prompt="cat", steps=8, **SIZE)
        assert held.entered.wait(10)
        wait_until(lambda: api.get_progress()["state"]["sampling_step"] == 5)
        progress = api.get_progress()
        assert progress["progress"] == 5 / 8
        assert progress["state"]["job_count"] == 1
        preview = Image.open(io.BytesIO(base64.b64decode(progress["current_image"])))
        red = np.asarray(preview)[0, 0, 0]
        assert 0 < red < 64  # so many tokens were masked still
        api.interrupt()
        result = drawing.result(10)  # though the step has not ended
        held.opened.set()
    assert np.asarray(result.image)[0, 0, 0] == red
    assert "preview: 5 of 8 steps" in " ".join(result.info["notes"])
    assert api.get_progress()["state"]["job_count"] == 0


def test_it_skips_one_image_of_two(server: Server, held: Gate) -> None:
    api = client(server)
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(api.txt2img, prompt="cat", steps=8, seed=1, batch_size=2, **SIZE)
        assert held.entered.wait(10)
        api.skip()
        assert api.get_progress()["state"]["skipped"]
        held.opened.set()
        result = drawing.result(10)
    finished = [note for note in result.info["notes"] if "preview" in note or "given up" in note]
    assert len(finished) == 1
    assert 2 in result.info["all_seeds"]


def test_a_key_sees_and_interrupts_its_own_alone(server: Server, held: Gate) -> None:
    keys = KeyFile(load_settings().state_folder)
    ann, bob = (client(server, keys.add(name, ["draw"], Limits())) for name in ("ann", "bob"))
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(ann.txt2img, prompt="cat", steps=8, **SIZE)
        assert held.entered.wait(10)
        assert bob.get_progress()["state"]["job_count"] == 0
        bob.interrupt()
        bob.skip()
        held.opened.set()
        result = drawing.result(10)
    assert len(result.info["notes"]) == 1  # of the sampler alone: the picture is whole


def test_it_is_told_of_a_missing_key_a_wrong_one_and_a_limit(server: Server) -> None:
    key = KeyFile(load_settings().state_folder).add("ann", ["draw"], Limits(requests_per_minute=1))
    codes = {None: "missing_api_key", "wrong": "invalid_api_key"}
    for text, code in codes.items():
        with pytest.raises(RuntimeError) as refusal:
            client(server, text).txt2img(prompt="cat", **SIZE)
        assert refusal.value.args[0] == 401
        assert code in refusal.value.args[1]
    api = client(server, key)
    assert api.txt2img(prompt="cat", **SIZE).image
    with pytest.raises(RuntimeError, match="rate_limit_exceeded") as refusal:
        api.txt2img(prompt="cat", **SIZE)
    assert refusal.value.args[0] == 429
