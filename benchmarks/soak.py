"""A long run of everything that may happen: ``python -m benchmarks.soak [--requests 10000]``.

Three models of which two fit into memory, two workers, and mixed requests over HTTP: a fifth hangs
up, one in twenty is bad, some are streams and some large edits. Meanwhile workers are killed,
models are put away and loaded again, floods come from one sender, cheap bodies and silent
connections from another. Every request must end in its images or in an error that its client saw,
``/livez`` must answer, and memory must not grow: what is resident at the end is compared with the
middle. Another sender asks for small pictures all the time; how long that takes is told beside how
long it takes alone, and beside as many users who harm nobody.

Then ``--stops 50`` servers, in processes of their own, get SIGTERM at random moments under load.
"""

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import random
import resource
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from benchmarks.serving import mix
from unmask.box import BUNDLED
from unmask.server.engine.engine import Engine, EngineOptions
from unmask.server.engine.models import ModelSource
from unmask.server.engine.sources import StoredModels
from unmask.server.http.server import Server
from unmask.settings import Settings
from unmask.store import default_model

BAD: tuple[dict[str, Any], ...] = (
    {"steps": 0},
    {"scheduler": "bogus"},
    {"size": "1x1"},
    {"prompt": ""},
    {"subjects": [["absent"]]},
)
CHEAP = b'{"prompt": "cat", "mask_shares": [' + b",".join([b'"a"'] * 200_000) + b"]}"
USERS = 24
STREAM_TYPE = "text/event-stream"
ENDS = {200: "drawn", 400: "bad", 429: "full", 503: "dead", 504: "late"}
OTHER, FLOODING, HARMING = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # senders, by address


@dataclass
class Report:
    """What clients saw of a soak; times in seconds."""

    ends: Counter[str] = field(default_factory=Counter)
    harm: Counter[str] = field(default_factory=Counter)  # what floods and cheap bodies got
    live: list[float] = field(default_factory=list)  # how long /livez took
    other: list[float] = field(default_factory=list)  # how long another sender waited


@contextlib.contextmanager
def served(
    source: ModelSource, models: Sequence[str], devices: Sequence[str] = ("cpu",), memory: int = 0
) -> Iterator[Server]:
    """A ready server on some port of this machine."""
    settings = Settings(
        port=0,
        model=models[0],
        more_models=list(models[1:]),
        device=devices[0],
        more_devices=list(devices[1:]),
        memory_bytes=memory,
        max_connections=128,
        jobs_at_once=0,  # floods are to reach the engine
        read_timeout_seconds=5,
        shutdown_timeout_seconds=20,
        log_level="critical",
    )
    server = Server(settings, Engine(EngineOptions.of(settings), source))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 120
        while not server.started or server.engine.stats().ready_workers < len(devices):
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join(60)


class Watch:
    """Kills a worker after each third of the requests, and notes the memory of this process."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.memory: dict[str, int] = {}
        self._engine, self._count = engine, count
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.memory["end"] = resident()

    def _watch(self) -> None:
        before = self._engine.stats().admitted
        deaths = [self._count // 3, 2 * self._count // 3]
        marks = {"tenth": self._count // 10, "middle": self._count // 2}
        while not self._ended.wait(0.02):
            done = self._engine.stats().admitted - before
            if deaths and done > deaths[0] and self._engine.workers:
                kill(self._engine)
                del deaths[0]
            for name, mark in marks.items():
                if done > mark:
                    self.memory.setdefault(name, resident())


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


def client(port: int, address: str = "127.0.0.1") -> httpx2.AsyncClient:
    """A client that sends from an address of this machine."""
    limits = httpx2.Limits(max_connections=None)
    transport = httpx2.AsyncHTTPTransport(local_address=address, limits=limits)
    base_url = f"http://127.0.0.1:{port}"
    return httpx2.AsyncClient(base_url=base_url, timeout=330, transport=transport)


def end_of(answer: httpx2.Response) -> str:
    """How a request ended; AssertionError if not in a way that a client can read."""
    if answer.headers["content-type"].startswith(STREAM_TYPE):
        name = answer.text.strip().rpartition("\n\n")[2].splitlines()[0]
        assert name.startswith("event: "), answer.text[-200:]
        return "dead" if name == "event: error" else "drawn"
    assert answer.status_code in ENDS, answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return ENDS[answer.status_code]


class Soak:
    """So many requests to a server, and all that goes on beside them."""

    def __init__(self, port: int, models: Sequence[str], count: int) -> None:
        self.port, self.models = port, models
        self.report = Report()
        self._chance = random.Random(0)
        self._bodies, self._numbers = mix(0), iter(range(count))
        picture = Image.effect_noise((320, 240), 80).convert("RGB")
        file = io.BytesIO()
        picture.save(file, "png")
        self._picture = file.getvalue()

    async def run(self) -> Report:
        """Send all of them."""
        async with client(self.port) as sending:
            beside = [asyncio.create_task(self._probe()), asyncio.create_task(self._other())]
            await asyncio.gather(*(self._user(sending) for _ in range(USERS)))
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
        return self.report

    async def alone(self, seconds: float) -> list[float]:
        """How long another sender waits when there is nobody else."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._other(), seconds)
        found, self.report.other = self.report.other, []
        return found

    async def _user(self, sending: httpx2.AsyncClient) -> None:
        for number in self._numbers:
            if number % 250 == 125:
                await self._harm()
            self.report.ends[await self._ask(sending, number)] += 1

    async def _ask(self, sending: httpx2.AsyncClient, number: int) -> str:
        chance = self._chance
        body = next(self._bodies) | {"steps": chance.choice((2, 4, 8))}
        others = self.models[1:]
        if others and number % 20 == 7:  # one after another, so that each makes the last go
            body["model"] = others[number // 200 % len(others)]
        fate, stream = chance.random(), chance.random() < 0.2
        if fate < 0.05:
            body |= chance.choice(BAD)
        if number % 100 == 50:
            form = {name: str(value) for name, value in body.items()} | {"n": "1", "strength": "1"}
            files = {"image": ("a.png", self._picture)}
            sent = sending.post("/v1/images/edits", data=form, files=files)
        else:
            sent = sending.post("/v1/images/generations", json=body | {"stream": stream})
        if 0.05 <= fate < 0.25:
            with contextlib.suppress(TimeoutError):
                end_of(await asyncio.wait_for(sent, chance.random()))
                return "drawn"
            return "hung up"
        end = end_of(await asyncio.wait_for(sent, 330))
        assert end == "bad" or fate >= 0.05 or end in ("full", "dead"), end
        return end

    async def _harm(self) -> None:
        """A flood, cheap bodies, and connections that say nothing."""
        headers = {"content-type": "application/json"}
        url, address = "/v1/images/generations", ("127.0.0.1", self.port)
        silent = [
            socket.create_connection(address, source_address=(HARMING, 0)) for _ in range(150)
        ]
        async with client(self.port, FLOODING) as flooding, client(self.port, HARMING) as harming:
            answers = await asyncio.gather(
                *(flooding.post(url, json=next(self._bodies)) for _ in range(50)),
                *(harming.post(url, content=CHEAP, headers=headers) for _ in range(5)),
                return_exceptions=True,
            )
        for answer in answers:
            if isinstance(answer, BaseException):  # too many connections, and this one had to go
                assert isinstance(answer, httpx2.TransportError), answer
                self.report.harm["cut off"] += 1
            else:
                self.report.harm[end_of(answer)] += 1
        for connection in silent:
            connection.close()

    async def _probe(self) -> None:
        async with client(self.port, OTHER) as probing:
            while True:
                began = time.perf_counter()
                (await probing.get("/livez")).raise_for_status()
                self.report.live.append(time.perf_counter() - began)
                await asyncio.sleep(0.05)

    async def _other(self) -> None:
        body = {"prompt": "a red apple", "steps": 8, "seed": 1}
        async with client(self.port, OTHER) as asking:
            while True:
                began = time.perf_counter()
                answer = await asking.post("/v1/images/generations", json=body)
                if end_of(answer) == "drawn":
                    self.report.other.append(time.perf_counter() - began)
                await asyncio.sleep(0.1)


def run_clients(
    port: int, models: Sequence[str], count: int
) -> tuple[list[float], list[float], Report]:
    """How long another sender waits alone, in a crowd, and all of a soak: in a process of its own,
    so that clients do not hold the interpreter that the server needs."""
    soak = Soak(port, models, count)
    alone = asyncio.run(soak.alone(10))
    return alone, asyncio.run(crowd(port, 20)), asyncio.run(soak.run())


async def crowd(port: int, seconds: float) -> list[float]:
    """How long another sender waits among so many users who do no harm."""
    body = {"prompt": "a red apple", "steps": 8, "seed": 1}
    found: list[float] = []

    async def user(number: int) -> None:
        async with client(port, "127.0.0.1") as asking:
            for other in mix(number):
                await asking.post("/v1/images/generations", json=other | {"steps": 4})

    users = [asyncio.create_task(user(number)) for number in range(USERS)]
    async with client(port, OTHER) as asking:
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            answer = await asking.post("/v1/images/generations", json=body)
            if answer.status_code == 200:
                found.append(time.perf_counter() - began)
            await asyncio.sleep(0.1)
    for task in users:
        task.cancel()
    await asyncio.wait(users)
    return found


@contextlib.asynccontextmanager
async def process(port: int, grace: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A ready ``unmask serve`` in a process of its own."""
    environment = {"UNMASK_SHUTDOWN_TIMEOUT_SECONDS": str(grace), "UNMASK_LOG_LEVEL": "critical"}
    command = (sys.executable, "-m", "unmask", "serve", "--port", str(port))
    started = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        async with client(port) as asking, asyncio.timeout(120):
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    if (await asking.get("/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def stop_under_load(port: int, chance: random.Random) -> Counter[str]:
    """How requests end that a server has when it is told to stop at a random moment."""
    ends: Counter[str] = Counter()
    bodies = mix(chance.randrange(2**32))
    grace = 4

    async def ask(asking: httpx2.AsyncClient) -> None:
        body = next(bodies) | {"n": 2, "steps": 64, "stream": chance.random() < 0.5}
        try:
            ends[end_of(await asking.post("/v1/images/generations", json=body))] += 1
        except (httpx2.ConnectError, httpx2.ReadError):
            ends["not connected"] += 1  # it came when nobody listened any more

    async with process(port, grace) as server, client(port) as asking:
        tasks = [asyncio.create_task(ask(asking)) for _ in range(USERS)]
        await asyncio.sleep(0.2 + chance.random())
        began = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
        assert await asyncio.wait_for(server.wait(), grace + 3) == 0
        assert time.perf_counter() - began < grace + 3
    return ends


def p(share: float, seconds: list[float]) -> str:
    """A percentile in milliseconds."""
    ordered = sorted(seconds)
    return f"{1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]:.0f} ms"


def named_copies(folder: Path, count: int) -> list[str]:
    """The default model and copies of it under other names: its name, and their folders."""
    name = default_model()
    copies = []
    for number in range(1, count):
        copy = folder / f"copy-{number}"
        shutil.copytree(BUNDLED / name, copy)
        card = json.loads((copy / "model.json").read_text())
        (copy / "model.json").write_text(json.dumps(card | {"name": copy.name}))
        copies.append(str(copy))
    return [name, *copies]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--stops", type=int, default=50)
    options = parser.parse_args()
    source = StoredModels("fp32")
    with tempfile.TemporaryDirectory() as folder:
        models = named_copies(Path(folder), 3)
        memory = int(2.5 * 2 * source.size(models[0]))  # two of them, for two workers
        with served(source, models, ("cpu", "cpu"), memory) as server:
            names = [models[0], *(Path(model).name for model in models[1:])]
            context = multiprocessing.get_context("spawn")
            with (
                ProcessPoolExecutor(1, context) as pool,
                Watch(server.engine, options.requests) as watch,
            ):
                clients = pool.submit(run_clients, server.bound_port, names, options.requests)
                alone, among, report = clients.result()
            stats = server.engine.stats()
    print(dict(report.ends), f"of {options.requests}; floods: {dict(report.harm)}")
    print("memory", {name: f"{value / 2**20:.0f} MiB" for name, value in watch.memory.items()})
    print(f"memory, end / middle: {watch.memory['end'] / watch.memory['middle']:.3f}")
    print(f"/livez p50 {p(0.5, report.live)}, p99 {p(0.99, report.live)}")
    for what, found in (("alone", alone), ("in a crowd", among), ("in the soak", report.other)):
        median = statistics.median(found)
        print(f"another sender {what}: p50 {median:.2f} s, p95 {p(0.95, found)}")
    print(stats)
    assert sum(report.ends.values()) == options.requests
    assert stats.deaths == 2
    chance, ends = random.Random(0), Counter[str]()
    for number in range(options.stops):
        ends += asyncio.run(stop_under_load(8900 + number % 50, chance))
    print(f"{options.stops} stops: {dict(ends)}")


if __name__ == "__main__":
    main()
