import re

import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import CheckFault, FakePipeline, serving
from unmask.server.http.page import FOLDER
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import Settings

MOST_BYTES = 150_000
FILES = sorted(path.name for path in FOLDER.iterdir())


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES


def test_the_page_loads_files_of_its_own_alone(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="([^"#]+)"', answer.text)
    assert named
    for name in named:
        assert client.get(f"/{name}").status_code == 200
    assert "<script>" not in answer.text
    assert "style=" not in answer.text
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        outside = [
            word for word in re.findall(r"https?://[^\s\"'`]+", text) if "w3.org" not in word
        ]
        assert outside == [], name
        assert "innerHTML" not in text


@pytest.mark.parametrize("path", ["/", *(f"/studio/{name}" for name in FILES)])
def test_every_file_has_the_policy_and_is_not_sent_twice(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("name", ["nothing.js", "__init__.py", "..%2F..%2Fsettings.py", ""])
def test_there_is_nothing_else(client: TestClient, fault: CheckFault, name: str) -> None:
    fault(client.get(f"/studio/{name}"), 404)


def test_the_page_needs_no_key_and_the_api_does(pipeline: FakePipeline, fault: CheckFault) -> None:
    KeyFile(Settings().state_folder).add("ann", ["draw"], Limits())
    with serving(lambda: pipeline) as client:
        for path in ("/", "/studio/app.js"):
            assert client.get(path).status_code == 200
        for path in ("/v1/models", "/openapi.json", "/studio/a/b"):
            fault(client.get(path), 401)


def test_the_page_is_not_in_the_document(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/studio")]


def test_fields_know_the_methods_that_they_belong_to(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/images/generations"]["post"]["requestBody"]
    fields = body["content"]["application/json"]["schema"]["properties"]
    assert "scheduler p2" in fields["eta"]["x-owners"]
    assert "x-owners" not in fields["steps"]
