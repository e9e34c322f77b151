"""What /sdapi/v1 makes of what its clients send, beside what webuiapi shows."""

import base64
import io
import json
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from tests.worlds.uploads import file
from unmask.server.a1111 import desks
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import load_settings

URL = "/sdapi/v1"
CAT = {"prompt": "cat", "steps": 3, "seed": 7}
PICTURE = base64.b64encode(file(Image.new("RGB", (64, 64), "red"), "png")).decode()


def half(left: str, right: str) -> str:
    mask = Image.new("RGB", (64, 64), right)
    mask.paste(left, (0, 0, 32, 64))
    return base64.b64encode(file(mask, "png")).decode()


def told(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    info: dict[str, Any] = json.loads(answer.json()["info"])
    return info


def pictures(answer: httpx2.Response) -> list[Image.Image]:
    files = [base64.b64decode(image) for image in answer.json()["images"]]
    return [Image.open(io.BytesIO(picture)) for picture in files]


def test_image_i_is_that_of_seed_plus_i(client: TestClient) -> None:
    many = client.post(f"{URL}/txt2img", json=CAT | {"batch_size": 2, "n_iter": 2})
    one = client.post(f"{URL}/txt2img", json=CAT | {"seed": 9})
    assert told(many)["all_seeds"] == [7, 8, 9, 10]
    assert pictures(many)[2].tobytes() == pictures(one)[0].tobytes()
    openai = client.post("/v1/images/generations", json=CAT)
    assert openai.json()["data"][0]["b64_json"] == many.json()["images"][0]


def test_words_that_the_model_was_not_taught_are_told(client: TestClient) -> None:
    info = told(client.post(f"{URL}/txt2img", json=CAT | {"prompt": "an aple", "batch_size": 2}))
    [warning] = info["warnings"]
    assert warning["words"] == [{"word": "aple", "nearest": ["apple"]}]
    assert told(client.post(f"{URL}/txt2img", json=CAT))["warnings"] == []


@pytest.mark.parametrize("sampler", ["sampler_name", "sampler_index"])
def test_schedulers_are_samplers_and_mask_schedules_are_schedulers(
    client: TestClient, pipeline: FakePipeline, sampler: str
) -> None:
    assert {"name": "random", "aliases": [], "options": {}} in client.get(f"{URL}/samplers").json()
    assert [one["name"] for one in client.get(f"{URL}/schedulers").json()] == ["arccos", "cosine"]
    answer = client.post(f"{URL}/txt2img", json=CAT | {sampler: "random", "scheduler": "cosine"})
    assert (told(answer)["sampler_name"], told(answer)["notes"]) == ("random", [])
    options = pipeline.drawn[0].options.flat()
    assert (options["scheduler"], options["mask_schedule"]) == ("random", "cosine")


def test_what_is_not_done_is_told(client: TestClient) -> None:
    body = {"sampler_name": "Euler a", "scheduler": "karras", "tiling": True, "hr_scale": 2}
    body |= {"override_settings": {"CLIP_stop_at_last_layers": 2}, "unheard_of": 1}
    info = told(client.post(f"{URL}/txt2img", json=CAT | body))
    assert info["sampler_name"] == "halton"
    assert info["notes"] == [
        "tiling: ignored",
        "unheard_of: ignored",
        "sampler_name: there is no 'Euler a', so the default was taken",
        "scheduler: there is no 'karras', so the default was taken",
        "override_settings: CLIP_stop_at_last_layers: ignored",
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"cfg_scale": 99}, "guidance_scale"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 6, "n_iter": 2}, "batch_size"),
        ({"width": 64}, "width"),
        ({"width": 512, "height": 512}, "size"),
        ({"script_name": "x/y/z plot"}, "script_name"),
        ({"alwayson_scripts": {"controlnet": {}}}, "alwayson_scripts"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_cannot_be_is_refused(
    client: TestClient, fault: CheckFault, body: dict[str, Any], param: str
) -> None:
    fault(client.post(f"{URL}/txt2img", json=CAT | body), 400, param)


def test_a_size_is_scaled_to_where_the_operator_says_so(
    serve: Serve, pipeline: FakePipeline, until: Until
) -> None:
    with serve(lambda: pipeline, size_policy="scale") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        answer = client.post(f"{URL}/txt2img", json=CAT | {"width": 512, "height": 384})
    assert (told(answer)["width"], pictures(answer)[0].size) == (512, (512, 384))


@pytest.mark.parametrize("invert", [0, 1])
def test_white_is_drawn_anew_and_the_rest_is_as_it_was(client: TestClient, invert: int) -> None:
    mask = half("white", "black") if invert == 0 else half("black", "white")
    body = {**CAT, "init_images": [PICTURE], "mask": f"data:image/png;base64,{mask}"}
    body |= {"inpainting_mask_invert": invert, "mask_blur": 0}
    answer = client.post(f"{URL}/img2img", json=body)
    assert told(answer)["denoising_strength"] == 0.75
    pixels = np.asarray(pictures(answer)[0])
    assert (pixels[:, 32:] == (255, 0, 0)).all()
    assert not (pixels[:, :32] == (255, 0, 0)).all(axis=2).any()
    assert "init_images" not in answer.json()["parameters"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"init_images": ["http://127.0.0.1/cat.png"]}, "init_images"),
        ({"init_images": [PICTURE, PICTURE]}, "init_images"),
        ({"init_images": [base64.b64encode(b"none").decode()]}, "image"),
        ({"mask": "?"}, "mask"),
        ({"denoising_strength": 0}, "strength"),
    ],
)
def test_pictures_that_cannot_be_are_refused(
    client: TestClient, fault: CheckFault, change: dict[str, Any], param: str
) -> None:
    fault(
        client.post(f"{URL}/img2img", json={**CAT, "init_images": [PICTURE], **change}), 400, param
    )


def test_a_large_picture_may_be_sent(client: TestClient) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    large = base64.b64encode(file(Image.fromarray(noise), "png")).decode()
    assert len(large) > 100_000  # what other bodies may have here
    assert client.post(f"{URL}/img2img", json=CAT | {"init_images": [large]}).status_code == 200


def test_open_webui_checks_chooses_and_draws(client: TestClient) -> None:
    empty = {"authorization": ""}
    options = client.get(f"{URL}/options", headers=empty).json()
    assert options == {"sd_model_checkpoint": "storybook", "samples_format": "png"}
    assert client.post(f"{URL}/options", json=options, headers=empty).json() == {}
    [model] = client.get(f"{URL}/sd-models", headers=empty).json()
    assert (model["title"], model["model_name"]) == ("storybook", "storybook")
    body = {"prompt": "cat", "batch_size": 1, "width": 64, "height": 64, "steps": 3}
    assert pictures(client.post(f"{URL}/txt2img", json=body, headers=empty))[0].format == "PNG"


def test_what_a_sender_chooses_changes_nothing_for_others(
    serve: Serve, until: Until, fault: CheckFault
) -> None:
    keys = KeyFile(load_settings().state_folder)
    ann, bob = (
        {"authorization": f"Bearer {keys.add(name, ['draw'], Limits())}"} for name in ("ann", "bob")
    )
    with serve(FakePipeline, more_models=["other"]) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        choice = {"sd_model_checkpoint": "other [abc]"}
        assert client.post(f"{URL}/options", json=choice, headers=ann).status_code == 200
        chosen = [client.get(f"{URL}/options", headers=key).json() for key in (ann, bob)]
        assert [one["sd_model_checkpoint"] for one in chosen] == ["other", "storybook"]
        unknown = client.post(f"{URL}/options", json={"sd_model_checkpoint": "no"}, headers=ann)
        fault(unknown, 404)
        fault(client.post(f"{URL}/options", json={"CLIP": 2}, headers=ann), 400, "CLIP")
        fault(client.post(f"{URL}/options", json={"samples_format": "gif"}, headers=ann), 400)
        override = {"override_settings": {"sd_model_checkpoint": "no"}}
        fault(client.post(f"{URL}/txt2img", json=CAT | override, headers=bob), 404)


def test_who_chose_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "MOST_CHOICES", 2)
    book = desks.Desks()
    for sender in ("a", "b", "a", "c"):
        book.choose(sender, "model")
    assert [book.model(sender) for sender in "abc"] == ["model", None, "model"]
