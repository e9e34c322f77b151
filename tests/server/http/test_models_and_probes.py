import threading
from dataclasses import fields

import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from unmask.errors import ConfigError
from unmask.pipeline import ModelInfo
from unmask.server.http.answer_schemas import ModelCard

URL = "/v1/images/generations"


def test_the_model_is_listed_with_what_it_can_do(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    [card] = listed["data"]
    assert (card["id"], card["object"], card["owned_by"]) == ("storybook", "model", "unmask")
    assert card["size"] == "64x64"
    assert card["grid"] == [8, 8]
    assert "halton" in card["schedulers"]
    words = {"words": ["apple", "cat"]}  # many, and so not in a list
    assert client.get("/v1/models/storybook").json() == card | words


def test_the_card_has_a_field_for_all_that_is_known_of_a_model() -> None:
    known = {field.name for field in fields(ModelInfo)} - {"name"}
    assert known <= set(ModelCard.model_fields)  # what has none is lost on the way out


def test_the_card_tells_every_bound_that_a_request_can_hit(client: TestClient) -> None:
    card = client.get("/v1/models/storybook").json()
    assert card["max_text_tokens"] == 23
    assert "max_long_prompt_text_tokens" not in card
    assert (card["max_edit_images"], card["max_edit_pixels"]) == (1, 24 << 20)
    assert (card["max_drawn_pixels"], card["size_policy"]) == (1 << 21, "exact")
    assert (card["max_body_bytes"], card["max_seconds"]) == (100_000, 300)
    bounds = card["bounds"]
    assert bounds["n"] == {"minimum": 1, "maximum": 10}
    assert bounds["seed"] == {"minimum": -1, "maximum": 2**64 - 1}
    assert bounds["strength"] == {"exclusiveMinimum": 0, "maximum": 1}
    assert bounds["guidance_interval"] == {"minimum": 0, "maximum": 1, "maxItems": 2}
    assert bounds["mask_mode"] == {"enum": ["auto", "alpha", "white"]}
    assert {"steps", "feather", "left", "image_index", "prompt"} <= set(bounds)


def test_a_model_that_is_not_there_is_not_found(client: TestClient, fault: CheckFault) -> None:
    error = fault(client.get("/v1/models/some/other"), 404, "model")
    assert error["code"] == "model_not_found"


def test_the_api_is_documented(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    ours = {path for path in paths if not path.startswith("/sdapi/")}
    assert ours == {
        "/livez",
        "/metrics",
        "/readyz",
        "/v1/models",
        "/v1/models/{model_id}",
        URL,
        "/v1/images/edits",
        "/v1/images/outpaint",
        "/v1/images/variations",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/results/{job_id}/{name}",
        "/v1/videos",
        "/v1/videos/edits",
        "/v1/videos/extensions",
        "/v1/videos/sync",
        "/v1/videos/{video_id}",
        "/v1/videos/{video_id}/content",
        "/v1/videos/{video_id}/events",
        "/v1/videos/{video_id}/remix",
        "/v1/webhook",
    }
    form = paths["/v1/images/edits"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["image", "prompt"]
    assert {"mask", "feather", "strength", "scheduler"} <= set(form["schema"]["properties"])
    assert "422" not in str(paths)


@pytest.mark.parametrize("url", [URL, "/v1/images/edits"])
def test_the_document_tells_streams_bounds_and_choices(client: TestClient, url: str) -> None:
    document = client.get("/openapi.json").json()
    route = document["paths"][url]["post"]
    events = route["responses"]["200"]["content"]["text/event-stream"]["schema"]["anyOf"]
    assert [event["title"] for event in events] == [
        "QueuedEvent",
        "TraceEvent",
        "PreviewEvent",
        "ImageEvent",
        "ErrorBody",
    ]
    for content in route["requestBody"]["content"].values():
        fields = content["schema"]["properties"]
        assert fields["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 10}
        assert "halton" in fields["scheduler"]["anyOf"][0]["enum"]
        assert fields["guidance_interval"]["anyOf"][0]["prefixItems"][1]["maximum"] == 1
        assert "$ref" not in str(content)


def test_what_is_required_is_always_there(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    answer = client.post(URL, json={"prompt": "cat"}).json()
    [card] = client.get("/v1/models").json()["data"]
    for name, body in {"ImageAnswer": answer, "ModelCard": card}.items():
        assert set(schemas[name]["required"]) <= set(body)
        assert set(body) <= set(schemas[name]["properties"])


def test_a_loading_server_lives_but_is_not_ready(
    serve: Serve, pipeline: FakePipeline, until: Until, fault: CheckFault
) -> None:
    loaded = threading.Event()

    def load() -> FakePipeline:
        assert loaded.wait(10)
        return pipeline

    with serve(load) as client:
        assert client.get("/livez").json() == {"status": "live"}
        refused = client.get("/readyz")
        assert "loading" in fault(refused, 503)["message"]
        assert refused.headers["retry-after"]
        fault(client.post(URL, json={"prompt": "cat"}), 503)
        [card] = client.get("/v1/models").json()["data"]
        assert (card["id"], card["state"]) == ("storybook", "loading")
        loaded.set()
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json() == {"status": "ready"}


def test_a_model_that_cannot_be_loaded_leaves_the_server_unready(
    serve: Serve, until: Until, fault: CheckFault
) -> None:
    def load() -> FakePipeline:
        raise ConfigError("/secret/folder: no model.json")

    with serve(load) as client:
        until(lambda: "could not be loaded" in client.get("/readyz").text)
        error = fault(client.get("/readyz"), 503)
        assert "ConfigError" in error["message"]
        assert "/secret" not in error["message"]
        assert client.get("/livez").status_code == 200
