"""The official client, unchanged, asks a live server for videos. Its methods are deprecated there,
which is no word on the shape that other servers keep."""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from PIL import Image

from tests.worlds.clip_models import noise_clip
from tests.worlds.native import PROMPT
from tests.worlds.server import FakePipeline, live_server
from tests.worlds.videos import CLIPS, OTHER
from unmask.encoding import parameters
from unmask.pipeline import Pipeline

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture(name="ai")
def _ai(clips: Pipeline, pipeline: FakePipeline) -> Iterator[openai.OpenAI]:
    with live_server(
        lambda key, device: clips if key == CLIPS else pipeline, more_models=[CLIPS]
    ) as server:
        url = f"http://127.0.0.1:{server.bound_port}/v1"
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            client.with_options(max_retries=10).models.list()  # until it is loaded
            yield client


def test_it_creates_polls_downloads_and_deletes(ai: openai.OpenAI, clips: Pipeline) -> None:
    asked: Any = {"seconds": "1", "size": "8x8", "model": "sora-2"}
    video: Any = ai.videos.create_and_poll(prompt=PROMPT, extra_body={"seed": 3}, **asked)
    assert (video.status, video.progress, video.seconds) == ("completed", 100, "1.125")
    assert (video.model, video.size, video.frames, video.seed) == (CLIPS, "8x8", 9, 3)
    assert video.prompt == PROMPT
    request = clips.request(PROMPT, frames=9, seed=3)
    clip = replace(clips.run(request).clips[0], comment=parameters(request, CLIPS))
    whole = ai.videos.download_content(video.id)
    assert whole.read() == clip.encode(video.output_format)
    assert whole.response.headers["content-type"] == f"video/{video.output_format}"
    for variant, picture in (("thumbnail", clip.thumbnail()), ("spritesheet", clip.spritesheet())):
        data = ai.videos.download_content(video.id, variant=variant).read()  # type: ignore[arg-type]
        assert Image.open(io.BytesIO(data)).tobytes() == picture.tobytes()
    assert ai.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError) as missing:
        ai.videos.retrieve(video.id)
    assert missing.value.code == "video_not_found"


def test_it_remixes_edits_extends_and_lists(ai: openai.OpenAI) -> None:
    file = ("clip.webp", noise_clip(9).encode("webp"), "image/webp")
    first: Any = ai.videos.create_and_poll(prompt=PROMPT, input_reference=file, seconds="2")  # type: ignore[arg-type]
    remix: Any = ai.videos.poll(ai.videos.remix(first.id, prompt=OTHER).id)
    edit: Any = ai.videos.poll(ai.videos.edit(prompt=OTHER, video=file).id)
    longer: Any = ai.videos.poll(ai.videos.extend(prompt=OTHER, seconds="1", video=file).id)  # type: ignore[arg-type]
    videos = [longer, edit, remix, first]
    assert {video.status for video in videos} == {"completed"}
    assert remix.remixed_from_video_id == first.id
    assert [video.edit["kind"] for video in videos] == ["extend", "revise", "revise", "extend"]
    assert [video.seconds for video in videos] == ["2.125", "1.125", "2.125", "2.125"]
    assert [video.id for video in ai.videos.list(limit=3)] == [video.id for video in videos]


def test_it_reads_why_a_video_is_refused(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="8x8 only") as refusal:
        ai.videos.create(prompt=PROMPT, size="720x1280")
    assert (refusal.value.param, refusal.value.code) == ("size", "invalid_value")
