"""Videos over HTTP: a model of clips beside one of pictures, behind the real app, and what its
clients do."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from tests.worlds.clip_models import noise_clip
from tests.worlds.native import PROMPT
from tests.worlds.server import FakePipeline, serving_models, wait_until
from unmask.clips import Clip
from unmask.pipeline import Pipeline

URL, CLIPS = "/v1/videos", "tiny-clips"
OTHER = "two blue squares"
BODY: dict[str, Any] = {"prompt": PROMPT, "seed": 3, "frames": 9, "output_format": "webp"}
Json = dict[str, Any]


@contextmanager
def serving_clips(clips: Pipeline, pictures: FakePipeline) -> Iterator[TestClient]:
    """A client of a server with both models, once they are loaded."""
    models = {"storybook": pictures, CLIPS: clips}
    with serving_models(lambda key, device: models[key], more_models=[CLIPS]) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def ended(client: TestClient, video: Json, **options: Any) -> Json:
    found: Json = {}

    def has_ended() -> bool:
        answer = client.get(f"{URL}/{video['id']}", **options)
        found.clear()
        found.update(answer.json())
        assert ("openai-poll-after-ms" in answer.headers) == ("completed_at" not in found)
        return found["status"] not in ("queued", "in_progress")

    wait_until(has_ended)
    return found


def create(client: TestClient, url: str = URL, /, **body: Any) -> Json:
    answer = client.post(url, json=body or BODY)
    assert answer.status_code == 200, answer.text
    video: Json = answer.json()
    assert (video["status"], answer.headers["openai-poll-after-ms"]) == ("queued", "500")
    return video


def content(client: TestClient, video: Json, variant: str = "video") -> bytes:
    answer = client.get(f"{URL}/{video['id']}/content", params={"variant": variant})
    assert answer.status_code == 200, answer.text
    return answer.content


def frames(client: TestClient, video: Json) -> NDArray[np.uint8]:
    """Those that were drawn, without loss."""
    sheet = Image.open(io.BytesIO(content(client, video, "spritesheet")))
    return Clip.of_spritesheet(sheet, video["frames"], video["fps"]).frames


def data_url(data: bytes, kind: str = "video/webp") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def still(seed: int) -> tuple[NDArray[np.uint8], str]:
    """A frame, and the URL of its picture."""
    clip = noise_clip(1, seed=seed)
    return clip.frames[0], data_url(png(clip.pictures()[0]), "image/png")
