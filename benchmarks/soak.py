"""A long run of everything that may happen: ``python -m benchmarks.soak [--requests 2000]``.

Mixed requests over HTTP, of which 20 % hang up and 5 % are bad, while two workers are killed. Every
other one must end in its images or in an error that the client saw, and memory must not grow: what
is resident at the end is compared with the middle.
"""

import argparse
import asyncio
import contextlib
import random
import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from benchmarks.serving import mix
from unmask.pipeline import Pipeline
from unmask.server.engine.engine import Engine, EngineOptions
from unmask.server.http.app import create_app
from unmask.settings import Settings
from unmask.store import default_model

BAD: tuple[dict[str, Any], ...] = (
    {"steps": 0},
    {"scheduler": "bogus"},
    {"size": "1x1"},
    {"prompt": ""},
    {"subjects": [["absent"]]},
)
USERS = 24
EXPECTED = {"drawn": 200, "bad": 400, "full": 429, "dead": 503}


@contextlib.contextmanager
def served(load: Callable[[str, str], Pipeline]) -> Iterator[tuple[Engine, int]]:
    """An engine behind a server on some port of this machine."""
    settings = Settings(model=default_model(), max_queue=1000, max_wait_seconds=1e6)
    engine = Engine(EngineOptions.of(settings), load)
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings, engine), port=0, log_level="critical", ws="none")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started or engine.stats().ready_workers == 0:
            threading.Event().wait(0.01)
        yield engine, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)


def kill(engine: Engine) -> None:
    """Make a worker die in its next tick."""

    def die() -> None:
        raise SystemExit

    next(iter(engine.workers.values())).sweep = die  # type: ignore[method-assign]


def resident() -> int:
    """Bytes of memory of this process, the most ever where the system does not tell of now."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def soak(engine: Engine, port: int, count: int) -> tuple[Counter[str], dict[str, int]]:
    """How the requests ended, and the memory after the first tenth, in the middle, at the end."""
    ends: Counter[str] = Counter()
    memory: dict[str, int] = {}
    chance, bodies, numbers = random.Random(0), mix(0), iter(range(count))
    marks = {count // 10: "tenth", count // 2: "middle", count - 1: "end"}
    deaths = {count // 3, 2 * count // 3}

    async def ask(client: httpx2.AsyncClient, number: int) -> str:
        body = next(bodies) | {"steps": chance.choice((2, 4, 8))}
        fate = chance.random()
        if fate < 0.05:
            body |= chance.choice(BAD)
        sent = client.post("/v1/images/generations", json=body)
        if 0.05 <= fate < 0.25:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(sent, chance.random())
                return "drawn"
            return "hung up"
        answer = await asyncio.wait_for(sent, 120)
        ended = {status: name for name, status in EXPECTED.items()}[answer.status_code]
        assert (ended == "bad") == (fate < 0.05), answer.text
        if ended == "drawn":
            assert len(answer.json()["data"]) == body["n"]
        else:
            assert answer.json()["error"]["message"]
        return ended

    async def user(client: httpx2.AsyncClient) -> None:
        for number in numbers:
            if number in deaths:
                kill(engine)
            if number in marks:
                memory[marks[number]] = resident()
            ends[await ask(client, number)] += 1

    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        await asyncio.gather(*(user(client) for _ in range(USERS)))
    return ends, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    with served(Pipeline.load) as (engine, port):
        ends, memory = asyncio.run(soak(engine, port, options.requests))
        print(dict(ends), f"of {options.requests}")
        print({name: f"{value / 2**20:.0f} MiB" for name, value in memory.items()})
        print(f"end / middle: {memory['end'] / memory['middle']:.3f}")
        print(engine.stats())
        assert sum(ends.values()) == options.requests
        assert engine.stats().deaths == 2


if __name__ == "__main__":
    main()
