"""Other clients, in the very requests that they send at their factory settings."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until, live_server, wait_until
from tests.worlds.uploads import EDITS, MASK, PNG, file
from unmask.server.engine.engine import EngineState

URL = "/v1/images/generations"
MODULES = Path(__file__).parents[3] / "build/npm/node_modules"


@pytest.fixture
def scaling(serve: Serve, pipeline: FakePipeline, until: Until) -> Iterator[TestClient]:
    with serve(lambda: pipeline, size_policy="scale") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.mark.parametrize("model", ["None", "", None, "dall-e-2", "gpt-image-1", "storybook"])
def test_open_webui_draws(scaling: TestClient, model: str | None) -> None:
    body = {"model": model, "prompt": "a cat", "n": 1, "size": "512x512"}
    answer = scaling.post(
        URL, json={**body, "response_format": "b64_json"}, headers={"authorization": ""}
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["size"], answer.json()["model"]) == ("512x512", "storybook")


def test_open_webui_reads_why_a_chat_is_too_long(scaling: TestClient, fault: CheckFault) -> None:
    prompt = "A highly detailed and atmospheric picture of a cat that sits on a wall. " * 8
    refused = scaling.post(URL, json={"model": "None", "prompt": prompt, "n": 1, "size": "512x512"})
    assert fault(refused, 400, "prompt")["code"] == "prompt_too_long"


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_open_webui_edits_a_photo(scaling: TestClient, name: str) -> None:
    photo = file(Image.new("RGB", (4000, 3000), "red"), "jpeg")
    data = {"model": "None", "prompt": "a cat", "n": "1", "size": "512x512"}
    data["response_format"] = "b64_json"
    answer = scaling.post(EDITS, data=data, files=[(name, ("image.jpg", photo, "image/jpeg"))])
    assert answer.status_code == 200, answer.text
    assert answer.json()["size"] == "512x512"


def test_open_webui_reads_why_two_pictures_are_too_many(
    scaling: TestClient, fault: CheckFault
) -> None:
    files = [("image[]", (f"{i}.png", PNG, "image/png")) for i in range(2)]
    data = {"model": "None", "prompt": "a cat", "n": "1"}
    refused = scaling.post(EDITS, data=data, files=files)
    assert "edit 1 picture" in fault(refused, 400, "image")["message"]


def test_litellm_draws_and_edits(client: TestClient) -> None:
    # What litellm.image_generation and image_edit send of openai/storybook.
    body: dict[str, Any] = {"model": "storybook", "prompt": "a cat", "n": 1, "user": ""}
    assert client.post(URL, json=body).status_code == 200
    files = [
        ("image[]", ("image.png", PNG, "image/png")),
        ("mask", ("mask.png", MASK, "image/png")),
    ]
    data = {"model": "storybook", "prompt": "a cat", "n": "1", "size": "auto"}
    answer = client.post(EDITS, data=data, files=files)
    assert base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert answer.json()["edit"]["kind"] == "inpaint"


@pytest.mark.skipif(
    "LITELLM_PYTHON" not in os.environ,
    reason="needs LITELLM_PYTHON, a Python with litellm and pillow: make clients",
)
def test_litellm_unchanged_draws_edits_and_cancels(pipeline: FakePipeline) -> None:
    """It cannot stream pictures, from whichever server: it takes the first event for the answer."""
    assert _run(pipeline, os.environ["LITELLM_PYTHON"], "client_litellm.py").split() == [
        *("drawn", "edited", "refused", "cancelled")
    ]


def _run(pipeline: FakePipeline, interpreter: str, script: str) -> str:
    """What a client's script says that is run against a real server."""
    with live_server(lambda key, device: pipeline) as server:
        wait_until(lambda: server.engine.state is EngineState.READY)
        variables = os.environ | {"BASE_URL": f"http://127.0.0.1:{server.bound_port}/v1"}
        variables |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # or it asks its home for prices
        variables["NODE_PATH"] = str(MODULES)
        variables.pop("PYTHONPATH", None)
        command = [interpreter, str(Path(__file__).with_name(script))]
        run = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.skipif(
    not (shutil.which("node") and (MODULES / "openai").is_dir()),
    reason="needs node, and its openai: make browser",
)
def test_nodes_openai_draws_edits_streams_and_cancels(pipeline: FakePipeline) -> None:
    assert _run(pipeline, "node", "client.cjs").split() == [
        *("drawn", "edited", "streamed", "refused", "cancelled")
    ]
