"""What is drawn over a clip, between pictures and around them, over HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.clip_models import noise_clip
from tests.worlds.native import PROMPT
from tests.worlds.server import CheckFault, FakePipeline
from tests.worlds.videos import (
    BODY,
    OTHER,
    URL,
    Json,
    create,
    data_url,
    ended,
    frames,
    png,
    serving_clips,
    still,
)
from unmask.clips import Clip, read_clip
from unmask.editing import boxes_through, interpolate, interpolate_through
from unmask.pipeline import Pipeline


@pytest.fixture(name="client")
def _client(clips: Pipeline, pipeline: FakePipeline) -> Iterator[TestClient]:
    with serving_clips(clips, pipeline) as client:
        yield client


def test_an_edit_keeps_what_it_does_not_select(client: TestClient) -> None:
    clip = noise_clip(9)
    fields = {"prompt": (None, OTHER), "seed": (None, "1"), "box": (None, "[0, 0, 4, 8]")}
    files = {"video": ("clip.webp", clip.encode("webp"), "image/webp")}
    answer = client.post(f"{URL}/edits", files={**fields, **files})
    assert answer.status_code == 200, answer.text
    video = ended(client, answer.json())
    assert (video["edit"]["kind"], video["frames"]) == ("inpaint", 9)
    shown = frames(client, video)
    assert np.array_equal(shown[:, :, 4:], clip.frames[:, :, 4:])
    assert not np.array_equal(shown[:, :, :4], clip.frames[:, :, :4])
    again: Json = {"prompt": OTHER, "video": {"video_url": data_url(clip.encode("webp"))}}
    mask = Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 4, 8))
    masked = create(
        client,
        f"{URL}/edits",
        **again,
        seed=1,
        mask={"image_url": data_url(png(mask), "image/png")},
    )
    assert np.array_equal(frames(client, ended(client, masked)), shown)
    whole = ended(client, create(client, f"{URL}/edits", **again, strength=0.5))
    assert (whole["edit"]["kind"], whole["edit"]["strength"]) == ("restyle", 0.5)


def test_what_lies_between_two_pictures_is_drawn(client: TestClient, clips: Pipeline) -> None:
    (first, first_url), (last, last_url) = still(1), still(2)
    body = BODY | {"input_reference": {"image_url": first_url}}
    video = ended(client, create(client, **body, last_reference={"image_url": last_url}))
    assert video["edit"]["kind"] == "interpolate"
    edit = interpolate(Clip(first[None], 8), Clip(last[None], 8), 9)
    expected = clips.generate(PROMPT, edit=edit, seed=3).frames
    assert np.array_equal(frames(client, video), expected)
    pinned = [{"frame": 0, "image_url": first_url}, {"frame": 8, "image_url": last_url}]
    only = ended(client, create(client, **BODY, last_reference={"image_url": last_url}))
    shown = frames(client, only)
    assert np.array_equal(shown[-1], last)
    assert not np.array_equal(shown[:-1], expected[:-1])
    listed = ended(client, create(client, **BODY, at=pinned))
    assert listed["edit"]["kind"] == "pin"
    assert np.array_equal(frames(client, listed), expected)
    answer = client.post(f"{URL}/sync", json=BODY | {"at": pinned})
    assert np.array_equal(read_clip(answer.content, rate=8).frames, expected)


def test_a_form_has_pictures_at_frames_as_files(client: TestClient) -> None:
    clip = noise_clip(5, seed=1)
    files = {
        "at[0]": ("a.png", png(noise_clip(1).pictures()[0]), "image/png"),
        "at[12]": ("b.webp", clip.encode("webp"), "image/webp"),
    }
    fields = {"prompt": (None, PROMPT), "frames": (None, "17"), "seed": (None, "1")}
    answer = client.post(URL, files={**fields, **files})
    assert answer.status_code == 200, answer.text
    shown = frames(client, ended(client, answer.json()))
    assert np.array_equal(shown[0], noise_clip(1).frames[0])
    assert np.array_equal(shown[12:], clip.frames)
    listed = json.dumps([{"frame": 4, "image_url": still(3)[1]}])
    more = client.post(URL, files={**fields, **files, "at": (None, listed)})
    shown = frames(client, ended(client, more.json()))
    assert np.array_equal(shown[[0, 4]], [noise_clip(1).frames[0], still(3)[0]])


def test_pictures_at_frames_of_a_video_take_their_place(
    client: TestClient, clips: Pipeline
) -> None:
    clip, (first, first_url), (last, last_url) = noise_clip(9), still(1), still(2)
    body = {
        "prompt": OTHER,
        "seed": 3,
        "video": {"video_url": data_url(clip.encode("webp"))},
        "at": [{"frame": 0, "image_url": first_url}, {"frame": 8, "image_url": last_url}],
    }
    ends = {0: Clip(first[None], 8), 8: Clip(last[None], 8)}
    for more, strength in (({}, 0.5), ({"strength": 0.25}, 0.25)):
        video = ended(client, create(client, f"{URL}/edits", **body, **more))
        assert (video["edit"]["kind"], video["edit"]["strength"]) == ("through", strength)
        edit = interpolate_through(clip, ends, strength)
        expected = clips.generate(OTHER, edit=edit, seed=3).frames
        assert np.array_equal(frames(client, video), expected)
    revised = create(client, f"{URL}/edits", **body, share=0.5)
    assert (revised["edit"]["kind"], revised["edit"]["share"]) == ("through", 0.5)


def test_what_lies_around_a_box_to_keep_is_drawn(client: TestClient) -> None:
    clip = noise_clip(9)
    keep = {"keep": [0, 0, 4, 8], "last_keep": [4, 0, 8, 8]}
    url = data_url(clip.encode("webp"))
    body = {"prompt": OTHER, "seed": 1, "video": {"video_url": url}, **keep}
    video = ended(client, create(client, f"{URL}/edits", **body))
    assert video["edit"]["kind"] == "outpaint"
    shown, inside = frames(client, video), boxes_through((0, 0, 4, 8), (4, 0, 8, 8), clip)
    assert np.array_equal(shown[inside], clip.frames[inside])
    assert not np.array_equal(shown[~inside], clip.frames[~inside])


def test_a_video_is_edited_at_its_own_size_or_at_the_one_asked_for(client: TestClient) -> None:
    clip = noise_clip(5, 16, 8)
    box = {"box": [0, 0, 6, 8], "video": {"video_url": data_url(clip.encode("webp"))}}
    video = ended(client, create(client, f"{URL}/edits", prompt=OTHER, **box))
    assert (video["status"], video["size"]) == ("completed", "16x8")
    assert np.array_equal(frames(client, video)[:, :, 6:], clip.frames[:, :, 6:])
    small = create(client, f"{URL}/edits", prompt=OTHER, **box, size="8x4")
    assert small["size"] == "8x4"
    remix = create(client, f"{URL}/{video['id']}/remix", prompt=OTHER)
    assert remix["size"] == "16x8"
    more = {"prompt": OTHER, "video": {"id": video["id"]}, "left": 4, "bottom": 2}
    grown = ended(client, create(client, f"{URL}/edits", **more))
    assert (grown["size"], grown["edit"]["kind"]) == ("20x10", "outpaint")
    assert np.array_equal(frames(client, grown)[:, :8, 4:], frames(client, video))


PIN: Json = {"frame": 0, "image_url": still(1)[1]}
REFERENCE: Json = {"image_url": still(1)[1]}


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"last_reference": REFERENCE, "frames": 1}, "seconds", "last_reference: it has 1 frames"),
        ({"at": [PIN], "last_reference": REFERENCE}, "at", "with last_reference: choose one"),
        ({"at": [PIN], "input_reference": REFERENCE}, "at", "with input_reference: choose one"),
        ({"at": [PIN], "scenes": [{"prompt": OTHER, "seconds": 1}]}, "scenes", "go with at"),
        ({"at": [PIN, PIN]}, "at", "frame 0 is given twice"),
        ({"at": [PIN | {"frame": 9}]}, "at", "has 0 to 8"),
        ({"at": [PIN | {"frame": -1}]}, "at", "greater than or equal to 0"),
        ({"at": [PIN | {"frame": 2}]}, "at", "only if frame 4"),
        ({"at": [PIN | {"frame": 4 * i} for i in range(17)]}, "at", "send 16 at most"),
        ({"at": [{"frame": 0, "image_url": "http://a/b.png"}]}, "at", "nothing is fetched"),
        ({"at": [{"frame": 0, "image_url": data_url(b"no picture")}]}, "at", "at"),
        (
            {"input_reference": REFERENCE, "last_reference": REFERENCE, "frames": 2},
            "frames",
            "there must be one at least",
        ),
    ],
)
def test_pictures_that_have_no_place_are_refused(
    client: TestClient, fault: CheckFault, body: Json, field: str, words: str
) -> None:
    answer = client.post(URL, json={**BODY, **body})
    assert words in fault(answer, 400, field)["message"]


def test_files_at_frames_are_files_of_a_form_that_has_some(
    client: TestClient, fault: CheckFault
) -> None:
    picture = ("a.png", png(noise_clip(1).pictures()[0]), "image/png")
    files: list[tuple[str, Any]] = [("prompt", (None, PROMPT)), ("at[0]", picture)]
    twice = client.post(URL, files=[*files, ("at[00]", picture)])
    assert "frame 0 is given twice" in fault(twice, 400, "at")["message"]
    text = client.post(URL, files=[*files, ("at[4]", (None, "x"))])
    assert "with a filename" in fault(text, 400, "at")["message"]
    fault(client.post(URL, files=[*files, ("at[x]", picture)]), 400, "at")
    fault(client.post(URL, files=[*files, ("at-4", picture)]), 400, "at-4")
    fault(client.post(f"{URL}/extensions", files=[*files, ("video", picture)]), 400, "at")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"keep": [0, 0, 4, 8], "box": [0, 0, 4, 8]}, "keep", "with box or a mask"),
        ({"keep": [0, 0, 4, 8], "strength": 0.5}, "keep", "with strength"),
        ({"keep": [0, 0, 9, 8]}, "keep", "within 8x8"),
        ({"last_keep": [0, 0, 4, 8]}, "last_keep", "where keep moves to"),
        ({"keep": [0, 0, 8, 8]}, "mask", "selects nothing"),
        ({"at": [PIN], "box": [0, 0, 4, 8]}, "at", "with box or a mask"),
        ({"at": [PIN], "keep": [0, 0, 4, 8]}, "keep", "with at"),
        ({"at": [PIN], "share": 0.5, "strength": 0.5}, "share", "not both"),
        ({"at": [PIN | {"frame": 6}]}, "at", "only if frame 8"),
        ({"share": 0.5, "strength": 0.5}, "share", "not both"),
        ({"left": 4, "box": [0, 0, 4, 8]}, "left", "with box or a mask"),
        ({"top": 4, "size": "8x8"}, "top", "with size"),
        ({"bottom": -4}, "bottom", "between 0 and"),
        ({"right": 8000}, "size", "windows times frames"),
        ({"size": "900x900"}, "size", "windows times frames"),
        ({"size": "99999x99999"}, "size", "a clip of 9 frames may have"),
    ],
)
def test_edits_say_in_one_way_what_may_change(
    client: TestClient, fault: CheckFault, body: Json, field: str, words: str
) -> None:
    video = {"video": {"video_url": data_url(noise_clip(9).encode("webp"))}}
    answer = client.post(f"{URL}/edits", json={"prompt": OTHER, **video, **body})
    assert words in fault(answer, 400, field)["message"]
