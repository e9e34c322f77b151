"""A replica, asked as the front asks it."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.worlds.native import PROMPT, write_native
from unmask.errors import ConfigError
from unmask.server.replicas.balance import MODELS, QUEUED_SECONDS, WORKING
from unmask.server.replicas.launch import Drawer, devices_of, serve_replicas, visible_gpus
from unmask.settings import load_settings

SECONDS = 30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _scope(method: str, path: str) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json"), (b"host", b"replica")]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


async def _ask(drawer: Drawer, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    messages = [message async for message in drawer.answer(_scope(method, path), body)]
    data = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], data


@pytest.mark.parametrize(
    ("variable", "value"), [("UNMASK_PORT", "0"), ("UNMASK_UNIX_SOCKET", "unmask.sock")]
)
def test_replicas_listen_at_a_port(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable} {value}"):
        serve_replicas(load_settings())


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is there")
def test_where_ray_is_not_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")  # what is set for Ray is undone
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[ray\]'"):
        serve_replicas(load_settings())


def test_replicas_are_all_of_one_kind() -> None:
    with pytest.raises(ConfigError, match=r"UNMASK_MORE_DEVICES cuda:1: .* cpu"):
        devices_of(load_settings(more_devices=["cpu", "cuda:1"]))


def test_ray_is_given_just_the_devices_of_the_settings() -> None:
    devices = devices_of(load_settings(device="cuda:2", more_devices=["cuda:0"]))
    assert visible_gpus(devices, None) == "2,0"
    assert visible_gpus(devices, "5,6,7") == "7,5"


@pytest.mark.anyio
async def test_a_replica_answers_as_the_app_does(tmp_path: Path) -> None:
    settings = load_settings(model=str(write_native(tmp_path)), threads=1, log_level="critical")
    drawer = Drawer(dict(settings), "one")
    try:
        async with asyncio.timeout(SECONDS):
            await drawer.check_health()
            assert (await _ask(drawer, "GET", "/readyz"))[0] == 200
            body = b'{"prompt": "%s", "steps": 2}' % PROMPT.encode()
            status, answer = await _ask(drawer, "POST", "/v1/images/generations", body)
            assert status == 200
            assert b'"b64_json":"iVBOR' in answer
            assert (await _ask(drawer, "GET", "/none"))[0] == 404
            told = drawer.record_routing_stats()
            assert told[QUEUED_SECONDS] >= 0
            assert drawer.record_autoscaling_stats() == {QUEUED_SECONDS: 0.0, WORKING: 0.0}
            assert len(told[MODELS]) == 1
            whole = await drawer.tell(_scope("GET", "/metrics"))
            assert (whole.name, whole.status) == ("one", 200)
            assert b"unmask_images_total{" in whole.body
            leaving = drawer.answer(_scope("POST", "/v1/images/generations"), body)
            task = asyncio.ensure_future(anext(aiter(leaving)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert (await _ask(drawer, "GET", "/livez"))[0] == 200
    finally:
        await drawer.stop()
