import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tests.worlds.published import write_amused
from tests.worlds.server import CheckFault, FakePipeline, serving, wait_until
from unmask.pipeline import Pipeline
from unmask.sampling.options import PlanOptions, flat_options
from unmask.server.engine.engine import Engine

URL = "/v1/images/generations"


def images(answer: httpx2.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    return [
        Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))) for item in answer.json()["data"]
    ]


def test_a_prompt_alone_is_enough(client: TestClient) -> None:
    answer = client.post(URL, json={"prompt": "a red cat"})
    [image] = images(answer)
    assert (image.format, image.size) == ("PNG", (64, 64))
    body = answer.json()
    assert body["model"] == "storybook"
    assert body["size"] == "64x64"
    assert body["background"] == "opaque"
    assert body["output_format"] == "png"
    assert set(body["timings"]) == {"queue", "generate", "encode"}
    assert "quality" not in body
    assert "safety_identifier" not in body


# Values of all sampling options that are not their defaults, as they go together.
CHOSEN: list[dict[str, object]] = [
    {
        "steps": 5,
        "scheduler": "random",
        "mask_schedule": "cosine",
        "temperature": 0.5,
        "temperature_last": 0.25,
        "temperature_warmup": 1,
        "guidance_scale": 2.0,
        "guidance": "interval",
        "guidance_interval": [0.25, 0.75],
        "count_rule": "entropy",
        "entropy_bound": 0.25,
        "noise_regularisation": 0.5,
        "differential": 0.5,
        "top_k": 100,
    },
    {
        "mask_shares": [0.5, 0.25, 0.0],
        "scheduler": "confidence",
        "choice_temperature": 3.0,
        "guidance_scale": 2.0,
        "guidance": "power-cosine",
        "guidance_power": 2.0,
        "count_rule": "stable",
        "stable_confidence": 0.5,
        "stable_divergence": 0.5,
    },
    {
        "scheduler": "uncage",
        "uncage_base": "random",
        "uncage_weight": 2.0,
        "uncage_share": 0.5,
        "uncage_blur": 1.0,
        "zigzag": True,
    },
    {"scheduler": "remdm-cap", "eta": 0.5, "reuse_policy": "none"},
    {"scheduler": "halton", "halton_shift": False, "reuse": 2, "reuse_after": 0.25},
    {"reuse_policy": "carried-null", "null_every": 3, "null_after": 0.5, "guidance_scale": 2.0},
]


def plain(options: PlanOptions) -> dict[str, object]:
    """Options as they stand in JSON, without those that are not set."""
    values = json.loads(json.dumps(options.flat()))
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("chosen", CHOSEN)
def test_the_answer_tells_what_is_needed_to_draw_it_again(
    client: TestClient, pipeline: FakePipeline, chosen: dict[str, object]
) -> None:
    prompt = {"prompt": "a red cat", "n": 3}
    first = client.post(URL, json={**prompt, **chosen}).json()
    again = {name: first[name] for name in (*flat_options(), "seed", "subjects") if name in first}
    assert first["subjects"] == [["red", "cat"]]
    assert client.post(URL, json={**prompt, **again}).json()["data"] == first["data"]
    one, other = pipeline.drawn
    assert one == other
    assert [item["image_index"] for item in first["data"]] == [0, 1, 2]
    assert len({item["b64_json"] for item in first["data"]}) == 3


@pytest.mark.parametrize("chosen", CHOSEN)
def test_every_option_reaches_the_pipeline(
    client: TestClient, pipeline: FakePipeline, chosen: dict[str, object]
) -> None:
    others: dict[str, object] = {"n": 2, "seed": 2**64 - 1}
    if "guidance_scale" in chosen:
        others["negative_prompt"] = "dog"
    subjects = {"subjects": [["cat"], ["red"]]}
    size = {"size": "64x64"}
    answer = client.post(URL, json={"prompt": "red cat", **others, **subjects, **size, **chosen})
    assert answer.status_code == 200, answer.text
    [request] = pipeline.drawn
    assert {name: getattr(request, name) for name in others} == others
    assert request.subjects == (("cat",), ("red",))
    assert request.size == (64, 64)
    used = plain(request.options)
    assert {name: used[name] for name in chosen} == chosen
    assert {name: answer.json()[name] for name in used} == used


def test_no_option_is_left_out_here() -> None:
    options = flat_options()
    assert {name for chosen in CHOSEN for name in chosen} == set(options)
    for name, option in options.items():
        # "halton" stands above for the sake of its own option.
        values = [chosen[name] for chosen in CHOSEN if name in chosen]
        assert any(value != option.default for value in values)


def test_null_means_the_default(client: TestClient, pipeline: FakePipeline) -> None:
    fields = client.get("/openapi.json").json()["paths"][URL]["post"]["requestBody"]["content"]
    names = set(fields["application/json"]["schema"]["properties"]) - {"prompt"}
    assert len(names) > 20
    assert client.post(URL, json=dict.fromkeys(names) | {"prompt": "cat"}).status_code == 200


def test_num_inference_steps_is_another_name_of_steps(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    client.post(URL, json={"prompt": "cat", "num_inference_steps": 3})
    client.post(URL, json={"prompt": "cat", "num_inference_steps": 4, "steps": 4})
    assert [request.options.steps for request in pipeline.drawn] == [3, 4]
    both = {"prompt": "cat", "num_inference_steps": 3, "steps": 4}
    fault(client.post(URL, json=both), 400, "steps")


@pytest.mark.parametrize(
    ("quality", "steps", "echoed"),
    [("low", 8, "low"), ("standard", 12, "medium"), ("hd", 16, "high"), ("max", 32, "max")],
)
def test_quality_is_a_number_of_steps(
    client: TestClient, quality: str, steps: int, echoed: str
) -> None:
    body = client.post(URL, json={"prompt": "cat", "quality": quality}).json()
    assert (body["steps"], body["quality"]) == (steps, echoed)


def test_steps_win_over_quality(client: TestClient) -> None:
    body = client.post(URL, json={"prompt": "cat", "quality": "max", "steps": 2}).json()
    assert body["steps"] == 2
    assert "quality" not in body


@pytest.mark.parametrize(("name", "kind"), [("webp", "WEBP"), ("jpeg", "JPEG")])
def test_lossy_formats_heed_the_compression(client: TestClient, name: str, kind: str) -> None:
    options = {"prompt": "cat", "output_format": name, "output_compression": 50}
    answer = client.post(URL, json=options)
    assert images(answer)[0].format == kind
    assert answer.json()["output_format"] == name


def test_png_carries_its_parameters_and_no_clock(client: TestClient) -> None:
    options = {"prompt": "chat été", "seed": 7}
    first, second = (client.post(URL, json=options) for _ in range(2))
    assert first.json()["data"] == second.json()["data"]
    [image] = images(first)
    assert isinstance(image, PngImageFile)
    notes = json.loads(image.text["unmask"])
    assert notes["prompt"] == "chat été"
    assert (notes["seed"], notes["model"], notes["size"]) == (7, "storybook", "64x64")


@pytest.mark.parametrize("name", ["storybook", "dall-e-3", "gpt-image-2", "chatgpt-image-1"])
def test_openai_names_mean_the_served_model(client: TestClient, name: str) -> None:
    assert client.post(URL, json={"prompt": "cat", "model": name}).json()["model"] == "storybook"


def test_an_unknown_model_is_told_the_known_one(client: TestClient, fault: CheckFault) -> None:
    error = fault(client.post(URL, json={"prompt": "cat", "model": "sdxl"}), 404, "model")
    assert error["code"] == "model_not_found"
    assert "storybook" in error["message"]


def test_hints_are_accepted_and_the_safety_identifier_comes_back(client: TestClient) -> None:
    hints = {"style": "vivid", "user": "u", "moderation": "low", "complexity": "high"}
    answer = client.post(URL, json={"prompt": "cat", "safety_identifier": "me", **hints})
    assert answer.json()["safety_identifier"] == "me"


def test_an_unknown_field_is_refused_with_the_nearest_known_one(
    client: TestClient, fault: CheckFault
) -> None:
    error = fault(client.post(URL, json={"prompt": "cat", "guidence": 3}), 400, "guidence")
    assert "did you mean 'guidance'" in error["message"]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("prompt", None),
        ("prompt", ""),
        ("prompt", "a\0b"),
        ("prompt", "x" * 1001),
        ("prompt", ["cat"]),
        ("n", 0),
        ("n", 11),
        ("n", "2"),
        ("n", True),
        ("size", "64"),
        ("size", "64x"),
        ("size", "64x64x64"),
        ("size", "64X64"),
        ("size", "٦٤x٦٤"),
        ("size", "-64x64"),
        ("size", "64x64\n"),
        ("size", "65x64"),
        ("quality", "ultra"),
        ("output_format", "gif"),
        ("output_compression", 101),
        ("output_compression", 50),  # the format is png
        ("background", "transparent"),
        ("stream", "yes"),
        ("priority", "high"),
        ("partial_images", 1),
        ("seed", -2),
        ("seed", 2**64),
        ("seed", 10**400),
        ("seed", 1.5),
        ("steps", 0),
        ("steps", 10**30),
        ("num_inference_steps", 0.5),
        ("scheduler", "euler"),
        ("mask_schedule", "zigzag"),
        ("guidance", "sometimes"),
        ("guidance_scale", 1e300),
        ("guidance_interval", [0.5]),
        ("guidance_interval", [0.9, 0.1]),
        ("guidance_interval", [0.1, 10**400]),
        ("mask_shares", []),
        ("mask_shares", [0.5, "0.1"]),
        ("mask_shares", [0.1, 0.5]),
        ("count_rule", "all"),
        ("eta", -1),
        ("reuse", 1.0),
        ("zigzag", 1),
        ("subjects", "cat"),
        ("subjects", [["dog"]]),
        ("subjects", [[]]),
        ("subjects", [["cat"]] * 17),
        ("temperature", -1),
        ("choice_temperature", "hot"),
        ("negative_prompt", "\0"),
        ("long_prompt", "yes"),
        ("long_prompt", True),
        ("temperature_warmup", 13),
        ("image_index", 2**32),
        ("safety_identifier", "x" * 257),
    ],
)
def test_a_bad_value_is_refused_by_name(
    client: TestClient, fault: CheckFault, param: str, value: object
) -> None:
    fault(client.post(URL, json={"prompt": "cat", param: value}), 400, param)


def test_a_missing_prompt_is_refused(client: TestClient, fault: CheckFault) -> None:
    fault(client.post(URL, json={}), 400, "prompt")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_no_header_makes_another_sender_of_one(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, address: str, key: str
) -> None:
    keys: list[str] = []
    submit = Engine.submit

    async def submit_heard(engine: Engine, *arguments: Any, **options: Any) -> Any:
        keys.append(options["key"])
        return await submit(engine, *arguments, **options)

    monkeypatch.setattr(Engine, "submit", submit_heard)
    with serving(lambda: pipeline, address=address) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        for number in range(3):
            headers = {"authorization": f"Bearer {number}", "x-forwarded-for": f"10.0.0.{number}"}
            client.post(URL, json={"prompt": "cat"}, headers=headers)
    assert keys == [key] * 3


def test_a_long_prompt_is_read_if_it_is_allowed(tmp_path: Path, fault: CheckFault) -> None:
    write_amused(tmp_path, down_up=False)
    pipeline = Pipeline.load(tmp_path)
    body: dict[str, object] = {"prompt": "x " * 80, "steps": 2, "model": None}
    with serving(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        [card] = client.get("/v1/models").json()["data"]
        assert (card["max_text_tokens"], card["max_long_prompt_text_tokens"]) == (75, 300)
        assert fault(client.post(URL, json=body), 400, "prompt")["code"] == "prompt_too_long"
        answer = client.post(URL, json={**body, "long_prompt": True})
        images(answer)
        assert answer.json()["long_prompt"] is True
        assert answer.json()["usage"]["input_tokens"] == 84  # with two starts and two ends
        events = client.post(URL, json={**body, "long_prompt": True, "stream": True}).text
        assert '"long_prompt": true' in events


def test_an_image_of_a_seed_can_be_drawn_alone(client: TestClient) -> None:
    body = {"prompt": "cat", "seed": 7, "output_format": "webp"}  # a png tells what was asked
    whole = client.post(URL, json={**body, "n": 4}).json()["data"]
    part = client.post(URL, json={**body, "n": 2, "image_index": 2}).json()["data"]
    assert part == whole[2:]
    assert [image["image_index"] for image in part] == [2, 3]
    events = client.post(URL, json={**body, "image_index": 3, "stream": True}).text
    assert '"image_index": 3' in events
    assert whole[3]["b64_json"] in events


def test_a_model_without_a_judge_refuses_to_be_judged(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    assert client.get("/v1/models/storybook").json()["judge"] is False
    error = fault(client.post(URL, json={"prompt": "a cat", "judge": True}), 400, "judge")
    assert "'storybook' has none" in error["message"]
    assert pipeline.drawn == []
