"""How soon a command answers: ``python -m benchmarks.start``.

Medians of some starts of ``unmask --help``, and of ``unmask serve`` with the bundled model until
/livez and until /readyz answer with 200, each counted from the start of the process.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2

UNMASK = [sys.executable, "-m", "unmask"]
SECONDS = 120.0


def seconds_of_help() -> float:
    """Of one call."""
    started = time.perf_counter()
    subprocess.run([*UNMASK, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def seconds_of_start() -> Iterator[float]:
    """Until /livez, then until /readyz, of one server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    serve = [*UNMASK, "serve", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(serve)
    try:
        for path in ("livez", "readyz"):
            while not _answers(f"http://127.0.0.1:{port}/{path}"):
                if time.perf_counter() - started > SECONDS or process.poll() is not None:
                    raise SystemExit(f"/{path} never answered")
                time.sleep(0.002)
            yield time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=SECONDS).status_code == 200
    except httpx2.TransportError:
        return False


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--starts", type=int, default=7)
    starts = parser.parse_args().starts
    helps = [seconds_of_help() for _ in range(starts)]
    print(f"--help  {statistics.median(helps):.2f} s")
    servers = [tuple(seconds_of_start()) for _ in range(starts)]
    for name, times in zip(("/livez", "/readyz"), zip(*servers, strict=True), strict=True):
        print(f"{name}  {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
