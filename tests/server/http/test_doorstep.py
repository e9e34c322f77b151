import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest

from unmask.errors import UnavailableError
from unmask.server.http.doorstep import STARTING, Doorstep, listening
from unmask.server.http.errors import error_body


@pytest.fixture(name="doorstep")
def _doorstep() -> Iterator[Doorstep]:
    doorstep = Doorstep(asyncio.run(listening("127.0.0.1", 0)))
    yield doorstep
    doorstep.leave()
    for each in doorstep.sockets:
        each.close()


def _address(doorstep: Doorstep) -> str:
    return f"http://127.0.0.1:{doorstep.sockets[0].getsockname()[1]}"


def test_livez_is_answered_and_all_else_told_to_come_back(doorstep: Doorstep) -> None:
    with httpx2.Client(base_url=_address(doorstep)) as client:
        live = client.get("/livez")
        assert (live.status_code, live.json()) == (200, {"status": "live"})
        for method, path in (("GET", "/readyz"), ("POST", "/v1/images/generations")):
            answer = client.request(method, path, content=b"x" * 100_000)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            later = error_body(UnavailableError("the server is starting"))
            assert answer.json() == json.loads(bytes(later.body)) == STARTING[1]
        assert client.head("/livez").content == b""


def test_who_comes_between_two_servers_is_answered_by_the_second(doorstep: Doorstep) -> None:
    doorstep.leave()
    with httpx2.Client(base_url=_address(doorstep)) as client:
        with pytest.raises(httpx2.ReadTimeout):
            client.get("/livez", timeout=0.1)
        second = Doorstep(doorstep.sockets)
        assert client.get("/livez").status_code == 200
        second.leave()
