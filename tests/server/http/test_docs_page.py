"""/docs without a network, and the examples of the document."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import FakePipeline, Serve


@pytest.mark.parametrize("root_path", [None, "/unmask"])
def test_the_page_and_all_that_it_loads_come_from_here(
    serve: Serve, pipeline: FakePipeline, root_path: str | None
) -> None:
    with serve(lambda: pipeline, root_path=root_path) as client:
        page = client.get(f"{root_path or ''}/docs")
        assert page.headers["content-type"].startswith("text/html")
        loaded = re.findall(r"""(?:src|href|url)(?:=|: ?)["']([^"']+)["']""", page.text)
        assert len(loaded) == 4
        for address in loaded:
            assert address.startswith(f"{root_path or ''}/")
            assert client.get(address).status_code == 200
        assert not re.findall(r"https?://", page.text)
        script = client.get(f"{root_path or ''}/docs/swagger-ui-bundle.js")
        assert "SwaggerUIBundle" in script.text
        assert script.headers["cache-control"] == "public, max-age=3600"


def schemas(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """The name, schema and example of each component and each body."""
    for name, schema in document["components"]["schemas"].items():
        yield name, schema, schema.get("example")
    for path, methods in document["paths"].items():
        for method in methods.values():
            contents = method.get("requestBody", {}).get("content", {})
            for media_type, content in contents.items():
                name = f"{path} {media_type}"
                several = content.get("examples", {"": {"value": content.get("example")}})
                for each in several.values():
                    yield name, content["schema"], each["value"]


def test_every_schema_has_an_example_that_it_allows(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for name, schema, example in schemas(document):
        assert example is not None, name
        whole = {**schema, "components": document["components"]}
        assert jsonschema_rs.is_valid(whole, example), name


def test_the_examples_of_bodies_are_answered_with_images(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    path = "/v1/images/generations"
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert client.post(path, json=content["example"]).status_code == 200
