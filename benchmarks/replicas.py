"""Two replicas beside one process with two workers: ``python -m benchmarks.replicas``.

Both are ``unmask serve`` with the same settings, one of them with ``--ray``, in turns. They are
asked by so many users at once, of whom each asks again when it has its answer, and by requests that
come at random times. A worker and a replica have one thread each. Told beside throughput and
latencies: how long the server took to be ready, and the memory of all its processes.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from benchmarks.serving import closed, figures, opened

SERVERS = {"two workers": [], "two replicas": ["--ray"]}
PORT = 18_765
ADDRESS = f"http://127.0.0.1:{PORT}"
STARTING_SECONDS = 300


@contextmanager
def served(options: list[str], state: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A server in a process, or in several, which is told to stop at the end."""
    environment = {
        **os.environ,
        "UNMASK_PORT": str(PORT),
        "UNMASK_MORE_DEVICES": '["cpu"]',
        "UNMASK_THREADS": "1",
        "UNMASK_JOBS_AT_ONCE": "0",  # all clients here are one sender
        "UNMASK_LIMITS": "memory",
        "UNMASK_STATE_DIR": state,
        "UNMASK_LOG_LEVEL": "error",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "serve", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def resident(process: int) -> int:
    """Bytes of memory of a process and all that it has started, what they share told once each."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    pairs = [line.split() for line in listed.stdout.splitlines()[1:]]
    parents = {int(each): int(parent) for each, parent in pairs}
    family = {process}
    while more := {each for each, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for each in family:
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


async def measure(
    options: list[str], users: int, rate: float, seconds: float, state: str
) -> dict[str, dict[str, float]]:
    """One round of both clients against one server."""
    began = time.perf_counter()
    with served(options, state) as process:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=ADDRESS, timeout=1e4, limits=limits) as client:
            while not await _is_ready(client):
                assert process.poll() is None, "the server has ended"
                assert time.perf_counter() - began < STARTING_SECONDS, "it is never ready"
                await asyncio.sleep(0.1)
            ready = time.perf_counter() - began
            await closed(client, 4, 3.0)  # warms up
            results = {"start": {"seconds": ready}}
            began = time.perf_counter()
            found = await closed(client, users, seconds)
            results[f"{users} users"] = figures(found, time.perf_counter() - began)
            began = time.perf_counter()
            found = await opened(client, rate, seconds)
            results[f"{rate:g} a second"] = figures(found, time.perf_counter() - began)
            results["start"]["bytes"] = resident(process.pid)
            return results


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each client")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2.0, help="requests a second")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as state:
        for _ in range(options.rounds):
            for name, more in SERVERS.items():
                measuring = measure(more, options.users, options.rate, options.seconds, state)
                rounds[name].append(asyncio.run(measuring))

    def median(name: str, client: str, figure: str) -> float:
        return statistics.median(found[client][figure] for found in rounds[name])

    print(f"medians of {options.rounds} rounds")
    print("| client | server | images a second | p50 s | p95 s |\n|---|---|---|---|---|")
    for client in list(rounds["two workers"][0])[1:]:
        for name in SERVERS:
            told = [median(name, client, f) for f in ("images_per_second", "p50", "p95")]
            print(f"| {client} | {name} | " + " | ".join(f"{each:.2f}" for each in told) + " |")
    for name in SERVERS:
        seconds, size = (median(name, "start", figure) for figure in ("seconds", "bytes"))
        print(f"{name}: ready after {seconds:.1f} s, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
