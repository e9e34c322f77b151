import threading

from fastapi.testclient import TestClient

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from unmask.errors import ConfigError

URL = "/v1/images/generations"


def test_the_model_is_listed_with_what_it_can_do(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    [card] = listed["data"]
    assert (card["id"], card["object"], card["owned_by"]) == ("storybook-64", "model", "unmask")
    assert card["size"] == "64x64"
    assert card["grid"] == [8, 8]
    assert "halton" in card["schedulers"]
    assert client.get("/v1/models/storybook-64").json() == card


def test_a_model_that_is_not_there_is_not_found(client: TestClient, fault: CheckFault) -> None:
    error = fault(client.get("/v1/models/some/other"), 404, "model")
    assert error["code"] == "model_not_found"


def test_the_api_is_documented(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/livez",
        "/readyz",
        "/v1/models",
        "/v1/models/{model_id}",
        URL,
        "/v1/images/edits",
        "/v1/images/outpaint",
        "/v1/images/variations",
    }
    form = paths["/v1/images/edits"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["required"] == ["image", "prompt"]
    assert {"mask", "feather", "strength", "scheduler"} <= set(form["schema"]["properties"])
    assert "422" not in str(paths)


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
        assert (card["id"], card["state"]) == ("storybook-64", "loading")
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
