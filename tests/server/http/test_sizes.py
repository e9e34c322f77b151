"""Models that draw at more than one size, over HTTP."""

import base64
import io
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.native import PROMPT, native_pipeline
from tests.worlds.server import serving, wait_until

URL = "/v1/images/generations"


@pytest.fixture(name="client", params=["exact", "scale"])
def _client(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    with serving(lambda: native_pipeline(enlarges=True), size_policy=request.param) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def _drawn(client: TestClient, **more: object) -> tuple[Image.Image, dict[str, object]]:
    answer = client.post(URL, json={"prompt": PROMPT, "seed": 3} | more).json()
    data = base64.b64decode(answer["data"][0]["b64_json"])
    return Image.open(io.BytesIO(data)), answer


def test_each_of_its_sizes_is_drawn_as_it_is_asked_for(client: TestClient) -> None:
    model = client.get("/v1/models").json()["data"][0]
    assert (model["size"], model["sizes"]) == ("16x16", ["16x16", "8x8"])
    usual, told = _drawn(client)
    assert (usual.size, told["size"]) == ((16, 16), "16x16")
    small, told = _drawn(client, size="8x8")
    assert (small.size, told["size"]) == ((8, 8), "8x8")
    assert "drawn_size" not in told
    again, _ = _drawn(client, size="16x16")
    assert again.tobytes() == usual.tobytes()
    alone = native_pipeline(enlarges=True).generate(PROMPT, seed=3, size=(8, 8)).images[0]
    assert small.tobytes() == alone.tobytes()
