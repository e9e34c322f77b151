"""HEAD and OPTIONS, pages of other origins, paths behind a proxy, and a socket in a file."""

import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until, live_server, wait_until
from unmask.commands import start
from unmask.errors import ConfigError, UnavailableError
from unmask.settings import load_settings

URL = "/v1/images/generations"
ORIGIN = "https://example.org"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/models", "/v1/models/storybook"])
def test_head_is_get_without_its_body(client: TestClient, path: str) -> None:
    answer, whole = client.head(path), client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == whole.headers["content-length"]
    assert answer.headers["x-request-id"]


def test_head_of_what_cannot_be_got_is_refused(client: TestClient) -> None:
    assert client.head(URL).status_code == 405
    assert client.head("/nothing").status_code == 404


def test_options_tells_the_methods(client: TestClient, fault: CheckFault) -> None:
    answer = client.options(URL)
    assert (answer.status_code, answer.headers["allow"]) == (204, "OPTIONS, POST")
    assert client.options("/v1/models/a/b").headers["allow"] == "GET, HEAD, OPTIONS"
    fault(client.options("/nothing"), 404)


def test_pages_may_call_only_if_the_operator_names_them(
    serve: Serve, pipeline: FakePipeline, client: TestClient, fault: CheckFault
) -> None:
    asks = {"origin": ORIGIN, "access-control-request-method": "POST"}
    asks["access-control-request-headers"] = "content-type,authorization"
    assert "access-control-allow-origin" not in client.options(URL, headers=asks).headers
    with serve(lambda: pipeline, cors_origins=[ORIGIN], max_body_bytes=100) as open_client:
        answer = open_client.options(URL, headers=asks)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        refused = open_client.post(URL, json={"prompt": "x" * 100}, headers={"origin": ORIGIN})
        assert fault(refused, 413)["code"] == "body_too_large"
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        other = open_client.get("/livez", headers={"origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cors_origins", ["example.org"]),
        ("cors_origins", ["https://example.org/"]),
        ("root_path", "unmask"),
        ("root_path", "/unmask/"),
        ("size_policy", "stretch"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=setting.replace("_", "-")):
        load_settings(**{setting: value})


def test_a_root_path_is_told_and_taken_with_or_without_it(
    serve: Serve, pipeline: FakePipeline, until: Until
) -> None:
    with serve(lambda: pipeline, root_path="/unmask") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/unmask/v1/models").status_code == 200
        assert client.get("/v1/models").status_code == 200
        assert client.options("/unmask/v1/models").status_code == 204
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/unmask"}]


def test_it_listens_on_a_socket_in_a_file_and_removes_it(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    path = tmp_path / "unmask.sock"
    start.check_socket(str(path))
    with live_server(lambda key, device: pipeline, unix_socket=str(path)):
        with pytest.raises(UnavailableError, match="another server"):
            start.check_socket(str(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
    wait_until(lambda: not path.exists())


def test_a_socket_that_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no such folder"):
        start.check_socket(str(tmp_path / "none" / "unmask.sock"))
    with pytest.raises(UnavailableError, match="UNMASK_UNIX_SOCKET"):
        start.check_socket(str(tmp_path / ("x" * 200)))
