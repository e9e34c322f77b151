"""``size_policy: scale``: what is drawn is scaled to what was asked for, and the answer says so."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from tests.worlds.uploads import MASK, PNG, VARIATIONS, file, post

URL = "/v1/images/generations"


@pytest.fixture
def scaling(serve: Serve, pipeline: FakePipeline, until: Until) -> Iterator[TestClient]:
    with serve(lambda: pipeline, size_policy="scale") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def size(answer: Any) -> tuple[int, int]:
    assert answer.status_code == 200, answer.text
    file = io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    return Image.open(file).size


def test_another_size_is_refused_unless_the_operator_says_so(
    client: TestClient, fault: CheckFault
) -> None:
    fault(client.post(URL, json={"prompt": "cat", "size": "512x512"}), 400, "size")


def test_a_drawn_image_is_scaled(scaling: TestClient, pipeline: FakePipeline) -> None:
    answer = scaling.post(URL, json={"prompt": "cat", "size": "96x160"})
    assert size(answer) == (96, 160)
    body = answer.json()
    assert (body["size"], body["drawn_size"], body["size_policy"]) == ("96x160", "64x64", "scale")
    assert pipeline.drawn[0].size == (64, 64)
    plain = scaling.post(URL, json={"prompt": "cat", "size": "64x64"}).json()
    assert "size_policy" not in plain
    assert "drawn_size" not in plain
    assert scaling.get("/v1/models/storybook").json()["max_scaled_pixels"] == 1 << 23


def test_a_scaled_size_has_a_bound(scaling: TestClient, fault: CheckFault) -> None:
    error = fault(scaling.post(URL, json={"prompt": "cat", "size": "99999x99999"}), 400, "size")
    assert str(1 << 23) in error["message"]


def test_events_are_scaled_too(scaling: TestClient) -> None:
    body = {"prompt": "cat", "size": "32x32", "stream": True, "partial_images": 1}
    text = scaling.post(URL, json=body).text
    assert text.count('"size": "32x32"') == 2
    assert '"drawn_size": "64x64"' in text


def test_an_edit_is_drawn_at_the_size_of_its_picture_and_scaled(
    scaling: TestClient, pipeline: FakePipeline
) -> None:
    answer = post(scaling, data={"prompt": "cat", "size": "80x80"}, image=PNG, mask=MASK)
    assert size(answer) == (80, 80)
    assert answer.json()["drawn_size"] == "40x24"
    assert pipeline.drawn[0].size == (40, 24)


@pytest.mark.parametrize("url", ["/v1/images/edits", VARIATIONS])
def test_a_photo_that_is_too_large_to_be_drawn_whole_is_shrunk_and_comes_back_as_large(
    scaling: TestClient, client: TestClient, fault: CheckFault, pipeline: FakePipeline, url: str
) -> None:
    photo = file(Image.new("RGB", (4000, 3000), "red"), "jpeg")
    fault(post(client, url, image=photo), 400, "image")
    answer = post(scaling, url, image=photo)
    assert size(answer) == (4000, 3000)
    assert answer.json()["drawn_size"] == "85x64"
    assert pipeline.drawn[-1].size == (85, 64)
