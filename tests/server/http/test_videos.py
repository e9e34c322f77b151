"""Videos over HTTP: a model of clips beside one of pictures, behind the real app."""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.clip_models import noise_clip
from tests.worlds.native import PROMPT
from tests.worlds.server import (
    SECONDS,
    CheckFault,
    FakePipeline,
    Gate,
    serving,
    serving_models,
    wait_until,
)
from tests.worlds.videos import (
    BODY,
    CLIPS,
    OTHER,
    URL,
    Json,
    content,
    create,
    data_url,
    ended,
    frames,
    png,
    serving_clips,
)
from unmask.clips import read_clip
from unmask.encoding import parameters
from unmask.errors import DrawingError
from unmask.pipeline import Pipeline
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import load_settings


@pytest.fixture(name="during")
def _during(clips: Pipeline) -> Iterator[list[Callable[[], None]]]:
    """What is called within each pass of the model of clips."""
    called: list[Callable[[], None]] = []
    full = clips.backbone.full

    def slow(*args: Any, **options: Any) -> Any:
        for call in called:
            call()
        return full(*args, **options)

    clips.backbone.full = slow  # type: ignore[method-assign]
    yield called
    del clips.backbone.full


@pytest.fixture(name="client")
def _client(clips: Pipeline, pipeline: FakePipeline) -> Iterator[TestClient]:
    with serving_clips(clips, pipeline) as client:
        yield client


def alone(clips: Pipeline, **options: Any) -> bytes:
    """The file of a clip that the model draws by itself."""
    request = clips.request(PROMPT, **options)
    clip = clips.run(request).clips[0]
    return replace(clip, comment=parameters(request, CLIPS)).encode("webp")


def test_a_video_is_what_the_model_draws_alone(client: TestClient, clips: Pipeline) -> None:
    video = create(client)
    assert (video["object"], video["progress"], video["model"]) == ("video", 0, CLIPS)
    assert (video["frames"], video["fps"], video["seconds"]) == (9, 8, "1.125")
    assert (video["size"], video["seed"], video["scheduler"]) == ("8x8", 3, "halton")
    done = ended(client, video)
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert done["expires_at"] > done["completed_at"] >= done["created_at"]
    assert content(client, done) == alone(clips, frames=9, seed=3)
    drawn = clips.generate(PROMPT, frames=9, seed=3)
    assert np.array_equal(frames(client, done), drawn.frames)
    thumbnail = Image.open(io.BytesIO(content(client, done, "thumbnail")))
    assert np.array_equal(np.asarray(thumbnail), drawn.frames[4])
    for name, url in done["urls"].items():
        assert client.get(url).content == content(client, done, name)
    assert client.get(f"/v1/jobs/job_{done['id'][6:]}").json()["result"]["id"] == done["id"]


def test_forms_and_texts_and_numbers_ask_for_the_same(client: TestClient, clips: Pipeline) -> None:
    fields = {"prompt": PROMPT, "seconds": "2", "seed": "3", "output_format": "webp"}
    assert client.post(URL, data=fields).status_code == 415  # not multipart
    multipart = {name: (None, value) for name, value in fields.items()}
    of_form = client.post(URL, files=multipart)
    assert of_form.status_code == 200, of_form.text
    other = create(client, prompt=PROMPT, seconds=2.0, seed=3, output_format="webp")
    assert of_form.json()["frames"] == other["frames"] == 17
    videos = [ended(client, of_form.json()), ended(client, other)]
    assert content(client, videos[0]) == content(client, videos[1])
    assert content(client, videos[0]) == alone(clips, frames=17, seed=3)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("seconds", 0, "up to 60.125"),
        ("seconds", "0", "up to 60.125"),
        ("seconds", 1e9, "up to 60.125"),
        ("seconds", -1, "up to 60.125"),
        ("seconds", "x", "no number of seconds"),
        ("seconds", "nan", "no number of seconds"),
        ("seconds", "1" * 400, "no number of seconds"),
        ("frames", 482, "between 1 and 481"),
        ("size", "1280x720", "draws 8x8 only"),
        ("fps", 24, "8 frames a second"),
        ("model", "storybook", "draws pictures"),
        ("output_format", "avi", "mp4"),
        ("previews", 17, "16"),
        ("steps", 0, "1"),
        ("n", 2, "unknown field"),
        ("scenes", [{"prompt": "", "seconds": "1"}], "empty"),
        ("scenes", [{"prompt": PROMPT, "seconds": "y"}], "no number of seconds"),
        ("input_reference", {"image_url": "https://example.com/a.png"}, "nothing is fetched"),
        ("input_reference", {"image_url": data_url(b"no clip")}, "input_reference"),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_a_job(
    client: TestClient, fault: CheckFault, field: str, value: object, words: str
) -> None:
    answer = client.post(URL, json={"prompt": PROMPT, field: value})
    assert words in fault(answer, 400, field)["message"]
    assert client.get(URL).json()["data"] == []


def test_other_faults_name_their_field(client: TestClient, fault: CheckFault) -> None:
    fault(client.post(URL, json={"prompt": PROMPT, "seconds": 1, "frames": 9}), 400, "frames")
    assert fault(client.post(URL, json={"prompt": PROMPT, "model": "x"}), 404)["code"] == (
        "model_not_found"
    )
    edit: Json = {"prompt": OTHER}
    fault(client.post(f"{URL}/edits", json=edit), 400, "video")
    clip = {"video_url": data_url(noise_clip(5).encode("webp"))}
    fault(client.post(f"{URL}/edits", json={**edit, "video": {}}), 400, "video")
    edit["video"] = clip
    fault(client.post(f"{URL}/edits", json={**edit, "last_box": [0, 0, 4, 4]}), 400, "last_box")
    fault(client.post(f"{URL}/edits", json={**edit, "box": [0, 0, 99, 4]}), 400, "box")
    fault(client.post(f"{URL}/edits", json={**edit, "share": 0.5, "strength": 0.5}), 400, "share")
    fault(client.post(f"{URL}/extensions", json={**edit, "frames": 480}), 400, "frames")
    fault(client.post(f"{URL}/extensions", json={**edit, "video": {"id": "video_x"}}), 404, "video")
    for path in ("video_x", "job_x", "edits"):
        assert fault(client.get(f"{URL}/{path}"), 404)["code"] == "video_not_found"
    fault(client.get(URL, params={"after": "video_x"}), 404, "video")
    fault(client.get(URL, params={"limit": 101}), 400, "limit")


def test_a_picture_begins_a_video_and_a_clip_goes_on(client: TestClient) -> None:
    picture = noise_clip(1).pictures()[0]
    reference = {"input_reference": ("first.png", png(picture), "image/png")}
    values = {"prompt": (None, PROMPT), "frames": (None, "9"), "seed": (None, "1")}
    answer = client.post(URL, files={**values, **reference})
    assert answer.status_code == 200, answer.text
    video = ended(client, answer.json())
    assert video["edit"]["kind"] == "extend"
    shown = frames(client, video)
    assert len(shown) == 9
    assert np.array_equal(shown[0], np.asarray(picture))
    for_longer = create(
        client,
        f"{URL}/extensions",
        prompt=OTHER,
        seconds="1",
        video={"id": video["id"]},
    )
    assert (for_longer["frames"], for_longer["seconds"]) == (17, "2.125")
    client.delete(f"{URL}/{video['id']}")  # what was taken of it is kept beside the new one
    longer = frames(client, ended(client, for_longer))
    assert np.array_equal(longer[:9], shown)
    assert not np.array_equal(longer[9:], np.repeat(shown[-1:], 8, 0))


def test_a_remix_revises_a_video(client: TestClient, fault: CheckFault) -> None:
    video = ended(client, create(client))
    remix = create(client, f"{URL}/{video['id']}/remix", prompt=OTHER)
    assert remix["remixed_from_video_id"] == video["id"]
    done = ended(client, remix)
    assert (done["prompt"], done["edit"]["kind"], done["frames"]) == (OTHER, "revise", 9)
    half = create(client, f"{URL}/{video['id']}/remix", prompt=OTHER, strength=0.5)
    assert (half["edit"]["kind"], half["edit"]["strength"]) == ("restyle", 0.5)
    fault(client.post(f"{URL}/video_x/remix", json={"prompt": OTHER}), 404, "video")


def test_words_that_the_model_was_not_taught_are_told_or_refused(
    client: TestClient, fault: CheckFault
) -> None:
    later = BODY | {"scenes": [{"prompt": "a sqare", "seconds": 0.5}]}
    [warning] = create(client, **later)["warnings"]
    assert (warning["code"], warning["param"]) == ("unknown_words", "scenes")
    assert warning["words"][0]["word"] == "sqare"
    done = ended(client, create(client, **BODY | {"prompt": "a sqare"}))
    assert done["warnings"][0]["param"] == "prompt"
    error = fault(client.post(URL, json=later | {"strict_prompt": True}), 400, "scenes")
    assert error["code"] == "unknown_words"
    assert "warnings" not in create(client, **BODY | {"strict_prompt": True})


def test_scenes_follow_the_first_prompt(client: TestClient, clips: Pipeline) -> None:
    scenes = [{"prompt": OTHER, "seconds": "1"}]
    done = ended(client, create(client, **BODY, scenes=scenes))
    assert (done["frames"], done["seconds"]) == (17, "2.125")
    first = clips.generate(PROMPT, frames=9, seed=3)
    assert np.array_equal(frames(client, done)[:9], first.frames)


def test_what_is_not_done_has_no_file_and_ranges_are_served(
    client: TestClient, during: list[Callable[[], None]], fault: CheckFault
) -> None:
    gate = Gate()
    during.append(lambda: gate([]))
    video = create(client)
    path = f"{URL}/{video['id']}/content"
    assert gate.entered.wait(SECONDS)
    early = client.get(path)
    assert fault(early, 404, "video")["code"] == "video_not_ready"
    assert early.headers["retry-after"] == "1"
    fault(client.post(f"{URL}/{video['id']}/remix", json={"prompt": OTHER}), 400, "video")
    gate.opened.set()
    whole = content(client, ended(client, video))
    part = client.get(path, headers={"range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, whole[4:12])
    assert part.headers["content-type"] == "image/webp"
    assert client.head(path).headers["content-length"] == str(len(whole))
    fault(client.get(path, params={"variant": "sound"}), 400, "variant")


def test_a_deleted_video_stops_and_leaves_nothing(
    client: TestClient, during: list[Callable[[], None]], fault: CheckFault
) -> None:
    gate, passes = Gate(), []
    during += [lambda: passes.append(1), lambda: gate([])]
    clip = data_url(noise_clip(5).encode("webp"))
    video = create(client, f"{URL}/edits", prompt=OTHER, video={"video_url": clip}, steps=20)
    folder = load_settings().state_folder / "files" / f"job_{video['id'][6:]}"
    assert gate.entered.wait(SECONDS)
    assert (folder / "uploads" / "video").exists()
    told = client.delete(f"{URL}/{video['id']}").json()
    assert told == {"id": video["id"], "object": "video.deleted", "deleted": True}
    gate.opened.set()
    fault(client.get(f"{URL}/{video['id']}"), 404)
    assert ended(client, create(client))["status"] == "completed"  # by the same worker
    wait_until(lambda: not folder.exists())
    assert len(passes) < 20


def test_a_failed_video_is_read_like_any_other(
    client: TestClient, during: list[Callable[[], None]], fault: CheckFault
) -> None:
    def fail() -> None:
        raise DrawingError("it gave no numbers")

    during.append(fail)
    video = ended(client, create(client))
    assert (video["status"], video["error"]["code"]) == ("failed", "drawing_failed")
    missing = client.get(f"{URL}/{video['id']}/content")
    fault(missing, 404, "video")
    assert "retry-after" not in missing.headers
    gate = Gate()
    during[:] = [lambda: gate([])]
    cancelled = create(client)
    assert gate.entered.wait(SECONDS)
    client.delete(f"/v1/jobs/job_{cancelled['id'][6:]}")
    gate.opened.set()
    found = ended(client, cancelled)
    assert (found["status"], found["error"]["code"]) == ("failed", "job_cancelled")


def test_events_tell_each_change_and_show_previews(
    client: TestClient, during: list[Callable[[], None]]
) -> None:
    during.append(lambda: time.sleep(0.12))
    body = {**BODY, "frames": 13, "steps": 6, "previews": 3, "stream": True}
    text = client.post(URL, json=body).text
    frames = [frame.split("\n") for frame in text.strip().split("\n\n")]
    names = [frame[0].removeprefix("event: ") for frame in frames]
    told = [json.loads(frame[1].removeprefix("data: ")) for frame in frames]
    assert names == [each["type"] for each in told]
    assert names[0] in ("video.queued", "video.in_progress")
    assert names[-1] == "video.completed"
    progress = [each["video"]["progress"] for each in told if "video" in each]
    assert progress == sorted(progress)
    assert any(0 < percent < 100 for percent in progress)
    previews = [each for each in told if each["type"] == "video.preview"]
    assert [preview["number"] for preview in previews] == [0, 1, 2]
    shown = Image.open(io.BytesIO(base64.b64decode(previews[-1]["b64_json"])))
    assert shown.size == (24, 8)  # three key frames
    video = told[-1]["video"]
    assert video["urls"]
    after = client.get(f"{URL}/{video['id']}/events").text
    assert after.startswith("event: video.completed")


def test_the_answer_at_once_is_the_file_of_the_job(client: TestClient, clips: Pipeline) -> None:
    answer = client.post(f"{URL}/sync", json=BODY)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-model"] == CLIPS
    assert float(answer.headers["x-inference-time-s"]) > 0
    assert answer.headers["x-request-id"]
    assert answer.content == alone(clips, frames=9, seed=3)
    assert client.get(URL).json()["data"] == []


def test_videos_beside_pictures_are_what_they_are_alone(
    client: TestClient, clips: Pipeline
) -> None:
    later = {"prefer": "respond-async"}
    pictures = [{"prompt": PROMPT, "seed": seed, "model": CLIPS} for seed in range(6)]
    videos = []
    for number, picture in enumerate(pictures):
        answer = client.post("/v1/images/generations", json=picture, headers=later)
        assert answer.status_code == 202, answer.text
        lengths = {"frames": 5 + 4 * (number % 3), "seed": number}
        videos.append((create(client, **{**BODY, **lengths}), lengths))
    for video, lengths in videos:
        assert content(client, ended(client, video)) == alone(clips, **lengths)


def test_the_same_key_is_drawn_once(client: TestClient, fault: CheckFault) -> None:
    key = {"idempotency-key": "k-1"}
    body = {"prompt": PROMPT, "frames": 5}
    first = client.post(URL, json=body, headers=key).json()
    again = client.post(URL, json={**body, "seed": None}, headers=key).json()
    assert (first["id"], first["seed"]) == (again["id"], again["seed"])
    fault(client.post(URL, json={**body, "frames": 9}, headers=key), 422)


def test_lists_are_pages_of_videos_alone(client: TestClient) -> None:
    client.post(
        "/v1/images/generations", json={"prompt": "cat"}, headers={"prefer": "respond-async"}
    )
    ids = [create(client)["id"] for _ in range(3)][::-1]
    page = client.get(URL, params={"limit": 2}).json()
    assert [video["id"] for video in page["data"]] == ids[:2]
    assert page["has_more"]
    rest = client.get(URL, params={"after": page["last_id"]}).json()
    assert [video["id"] for video in rest["data"]] == ids[2:]
    rising = client.get(URL, params={"order": "asc"}).json()
    assert [video["id"] for video in rising["data"]] == ids[::-1]


def test_what_one_key_made_is_not_there_for_another(clips: Pipeline, fault: CheckFault) -> None:
    keys = KeyFile(load_settings().state_folder)
    ann, bob = (
        {"authorization": f"Bearer {keys.add(name, ['draw'], Limits())}"} for name in ("ann", "bob")
    )
    with serving_models(lambda key, device: clips, model=CLIPS) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        video = client.post(URL, json=BODY, headers=ann).json()
        ended(client, video, headers=ann)
        path = f"{URL}/{video['id']}"
        edit = {"prompt": OTHER, "video": {"id": video["id"]}}
        answers: list[httpx2.Response] = [
            client.get(path, headers=bob),
            client.get(f"{path}/content", headers=bob),
            client.get(f"{path}/events", headers=bob),
            client.delete(path, headers=bob),
            client.post(f"{path}/remix", json={"prompt": OTHER}, headers=bob),
            client.post(f"{URL}/edits", json=edit, headers=bob),
            client.post(f"{URL}/extensions", json={**edit, "seconds": "1"}, headers=bob),
            client.get(URL, params={"after": video["id"]}, headers=bob),
        ]
        for answer in answers:
            assert fault(answer, 404)["code"] == "video_not_found"
        assert client.get(URL, headers=bob).json()["data"] == []
        fault(client.get(f"{path}/content"), 401)
        assert client.get(path, headers=ann).json()["status"] == "completed"


def test_without_a_model_of_clips_it_is_told(pipeline: FakePipeline, fault: CheckFault) -> None:
    with serving(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        message = fault(client.post(URL, json={"prompt": PROMPT}), 400, "model")["message"]
        assert "storybook" in message


def test_a_file_without_loss_reads_back_as_it_was_drawn(client: TestClient) -> None:
    video = ended(client, create(client))
    assert np.array_equal(read_clip(content(client, video), rate=8).frames, frames(client, video))
