"""How much slower a key is answered while others abuse the server: ``python -m benchmarks.abuse``.

A live server of the bundled model, in a process and on cores of its own, and two keys. One draws,
a request after another; the other may have one drawing at once and has it on its way all the time,
so that what it may do is in the figure before the abuse too. Then, until the first key has drawn
its pictures, ``slow`` holds 50 connections that send a byte at a time; ``at once`` sends 500
requests at once with the second key, again and again; ``wrong keys`` sends 10,000 requests with
keys that are none. The table holds p95 of the first key in milliseconds, before and during each.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2

from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile

URL = "/v1/images/generations"
BODY = {"prompt": "a red apple", "steps": 4, "seed": 1}
SLOW, AT_ONCE, WRONG = 50, 500, 10_000
LANES = 32  # of connections over which wrong keys come

Abuse = Callable[[str, str, Counter[str], Callable[[], bool]], Coroutine[Any, Any, None]]


def serve(port: int, state: Path) -> None:
    """Run the server until it is told to stop."""
    from unmask.server.http.server import serve as serve_until_signal
    from unmask.settings import load_settings

    serve_until_signal(load_settings(port=port, state_dir=state, threads=1, log_level="error"))


@contextlib.contextmanager
def served(state: Path) -> Iterator[str]:
    """The address of a ready server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server_cores, client_cores = halves()
    os.sched_setaffinity(0, server_cores)  # which a process hands on to its children
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port, state))
    process.start()
    os.sched_setaffinity(0, client_cores)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"{url}/readyz").status_code == 200:
                    break
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.join(60)


async def slow(url: str, key: str, answers: Counter[str], enough: Callable[[], bool]) -> None:
    """Connections that send a byte of a request at a time, and are made anew when they are cut."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST {URL} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n".encode()

    async def drip() -> None:
        while not enough():
            _, writer = await asyncio.open_connection(host, int(port))
            with contextlib.suppress(ConnectionError):
                for byte in head:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.2)
                    if enough():
                        break
            answers["connections"] += 1
            writer.close()

    await asyncio.gather(*(drip() for _ in range(SLOW)))


async def at_once(url: str, key: str, answers: Counter[str], enough: Callable[[], bool]) -> None:
    """So many requests at once, and so many again when all of them are answered."""
    limits = httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=300) as client:
        while not enough():
            asked = [client.post(URL, json=BODY, headers=bearer(key)) for _ in range(AT_ONCE)]
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                status = getattr(answer, "status_code", type(answer).__name__)
                answers[str(status)] += 1


async def wrong_keys(url: str, key: str, answers: Counter[str], enough: Callable[[], bool]) -> None:
    """So many requests with keys that are none, however soon it is enough."""
    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:

        async def guess(lane: int) -> None:
            for number in range(lane, WRONG, LANES):
                answer = await client.post(URL, json=BODY, headers=bearer(f"unmask-{number}"))
                answers[str(answer.status_code)] += 1

        await asyncio.gather(*(guess(lane) for lane in range(LANES)))


ABUSES: dict[str, Abuse] = {"slow": slow, "at once": at_once, "wrong keys": wrong_keys}


def abuse(name: str, url: str, key: str, enough: Any, answers: Any) -> None:
    """In a process of lower priority than that of the first key: it is the server's work that is
    measured, not that of the clients."""
    os.nice(10)
    counts: Counter[str] = Counter()
    asyncio.run(ABUSES[name](url, key, counts, enough.is_set))
    answers.put(dict(counts))


def keep_drawing(url: str, key: str, ended: threading.Event) -> None:
    """What the second key may do: one drawing after another."""
    with httpx2.Client(base_url=url, timeout=300) as client:
        while not ended.is_set():
            answer = client.post(URL, json=BODY, headers=bearer(key))
            if answer.status_code == 429:
                ended.wait(0.01)


def draw(url: str, key: str, count: int, busy: Callable[[], bool]) -> list[float]:
    """The seconds of so many requests, one after another, and of more while it is busy."""
    seconds: list[float] = []
    with httpx2.Client(base_url=url, timeout=300) as client:
        while len(seconds) < count or busy():
            began = time.perf_counter()
            client.post(URL, json=BODY, headers=bearer(key)).raise_for_status()
            seconds.append(time.perf_counter() - began)
    return seconds


def halves() -> tuple[set[int], set[int]]:
    """The cores of the server, and those of the clients, who would be elsewhere."""
    all_cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(all_cores) // 2)
    return set(all_cores[:half]), set(all_cores[half:] or all_cores)


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"authorization": f"Bearer {key}"}


def p95(seconds: list[float]) -> float:
    """In milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=20)[-1]


def measure(url: str, name: str, first: str, second: str, count: int) -> str:
    """A line about one abuse."""
    context = multiprocessing.get_context("spawn")
    ended, enough, answers = threading.Event(), context.Event(), context.Queue()
    lawful = threading.Thread(target=keep_drawing, args=(url, second, ended))
    lawful.start()
    before = p95(draw(url, first, count, lambda: False))
    process = context.Process(target=abuse, args=(name, url, second, enough, answers))
    process.start()
    time.sleep(3)  # it begins
    during = draw(url, first, count, lambda: name == "wrong keys" and process.is_alive())
    enough.set()
    told = answers.get()
    process.join()
    ended.set()
    lawful.join()
    ratio = p95(during) / before
    return f"{name:<11} {before:8.1f} {p95(during):8.1f} {ratio:6.2f}  {len(during):6d}  {told}"


def main() -> None:
    """Measure all of them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="requests of the first key")
    parser.add_argument("--only", choices=ABUSES, action="append", help="this abuse")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = KeyFile(Path(folder))
        first = file.add("first", ["draw"], Limits())
        second = file.add("second", ["draw"], Limits(jobs_at_once=1))
        with served(Path(folder)) as url:
            draw(url, first, 20, lambda: False)  # warm
            print("abuse         before   during  ratio  drawn  answers to the abuser")
            for name in options.only or ABUSES:
                print(measure(url, name, first, second, options.count), flush=True)


if __name__ == "__main__":
    main()
