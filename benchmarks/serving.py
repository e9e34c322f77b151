"""Serving under mixed load: ``python -m benchmarks.serving [--out FOLDER]``.

Servers with the same weights, one after another in turns:

- ``engine``: unmask serve.
- ``lock``: FastAPI with a lock around drawing, a request at a time.
- ``batches``: FastAPI that batches whole requests: what waits and asks for the same number of steps
  is drawn together, to the end, before anything else begins.
- ``diffusers``: FastAPI with a lock around diffusers' AmusedPipeline; for an aMUSEd folder only
  (``benchmarks.amused --write`` makes one of random weights).

Two clients: ``closed`` (so many users, each asks again when it has its answer) and ``open`` at each
of the rates (requests come at random times whether or not the server keeps up; each latency counts
from then). The mix is fixed by the seed: 1 to 4 images of 4 to 32 steps by several schedulers, all
of them confidence for diffusers, which has no other.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from unmask.checkpoint import DTYPES
from unmask.devices import Precision
from unmask.store import default_model

SERVERS = ("engine", "batches", "lock", "diffusers")
PORT = 8765
NOUNS = ("apple", "book", "cat", "tree", "star", "house")
COLOURS = ("red", "green", "blue", "yellow", "purple")


def mix(seed: int) -> Iterator[dict[str, Any]]:
    """Endless requests, the same for a seed."""
    chance = random.Random(seed)
    while True:
        things = [f"a {chance.choice(COLOURS)} {chance.choice(NOUNS)}" for _ in range(2)]
        yield {
            "prompt": f"{things[0]} to the left of {things[1]}",
            "n": chance.choices((1, 2, 4), (6, 2, 1))[0],
            "steps": chance.choices((4, 8, 12, 16, 32), (1, 3, 4, 2, 1))[0],
            "scheduler": chance.choice(("halton", "confidence", "uncage", "remdm-conf")),
            "seed": chance.randrange(2**32),
        }


def serve(name: str, model: str, precision: Precision) -> None:
    """Run one of the servers until it is killed."""
    import uvicorn
    from fastapi import FastAPI, Request

    from unmask.encoding import encode
    from unmask.pipeline import Pipeline
    from unmask.server.http.app import create_app
    from unmask.settings import Settings

    if name == "engine":
        settings = Settings(
            model=model,
            precision=precision,
            max_queue=10_000,
            jobs_at_once=0,  # all clients here are one sender
            max_wait_seconds=1e9,
            request_timeout_seconds=1e6,
        )
        app = create_app(settings)
        uvicorn.run(app, port=PORT, log_level="error")
        return
    # As the engine does it: weights loaded in a thread that ends, drawing in one thread for ever.
    # More threads than cores that ever used OpenMP would slow these servers by a quarter.
    loader, drawer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    pipeline = loader.submit(Pipeline.load, model, precision=precision).result()
    reference = (
        loader.submit(_reference, model, precision).result() if name == "diffusers" else None
    )
    loader.shutdown()
    app = FastAPI()
    lock, waiting = asyncio.Lock(), deque[tuple[Any, asyncio.Future[list[Any]]]]()

    def together(requests: list[Any]) -> list[Any]:
        return pipeline.draw_batch(
            [request.alone(index) for request in requests for index in request.image_indices]
        )

    async def drain() -> None:
        while waiting:
            async with lock:
                if not waiting:
                    return
                steps = waiting[0][0].options.steps
                chosen = [entry for entry in waiting if entry[0].options.steps == steps][:16]
                for entry in chosen:
                    waiting.remove(entry)
                requests = [request for request, _ in chosen]
                images = await asyncio.wrap_future(drawer.submit(together, requests))
                for request, promise in chosen:
                    promise.set_result(images[: request.n])
                    images = images[request.n :]

    @app.post("/v1/images/generations")
    async def draw(request: Request) -> dict[str, Any]:
        body = await request.json()
        asking = pipeline.request(body.pop("prompt"), **body)
        if name == "lock":
            async with lock:
                images = (await asyncio.wrap_future(drawer.submit(pipeline.run, asking))).images
        elif reference is not None:
            async with lock:
                images = await asyncio.wrap_future(drawer.submit(reference, asking))
        else:
            promise: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            waiting.append((asking, promise))
            await asyncio.sleep(0.01)
            await drain()
            images = await promise
        files = await asyncio.to_thread(lambda: [encode(image, "png", 100, "") for image in images])
        return {"data": [len(file) for file in files]}

    @app.get("/readyz")
    async def ready() -> None:
        return None

    uvicorn.run(app, port=PORT, log_level="error")


def _reference(model: str, precision: Precision) -> Callable[[Any], list[Any]]:
    """What draws a request as diffusers does."""
    from diffusers import AmusedPipeline

    load: Callable[..., Any] = AmusedPipeline.from_pretrained
    pipeline = load(model, torch_dtype=DTYPES[precision])
    pipeline.set_progress_bar_config(disable=True)

    def draw(request: Any) -> list[Any]:
        images: list[Any] = pipeline(
            request.prompt,
            num_inference_steps=request.options.steps,
            guidance_scale=request.options.guidance_scale,
            num_images_per_prompt=request.n,
        ).images
        return images

    return draw


async def closed(client: httpx2.AsyncClient, users: int, seconds: float) -> list[tuple[float, int]]:
    """(latency, images) of all requests that ``users`` had answered."""
    found: list[tuple[float, int]] = []
    end = time.perf_counter() + seconds

    async def user(seed: int) -> None:
        for body in mix(seed):
            began = time.perf_counter()
            if began > end:
                return
            (await client.post("/v1/images/generations", json=body)).raise_for_status()
            found.append((time.perf_counter() - began, body["n"]))

    await asyncio.gather(*map(user, range(users)))
    return found


async def opened(
    client: httpx2.AsyncClient, rate: float, seconds: float
) -> list[tuple[float, int]]:
    """(latency, images) of requests that came ``rate`` a second for so long."""
    found: list[tuple[float, int]] = []
    chance, bodies = random.Random(0), mix(1000)

    async def ask(body: dict[str, Any]) -> None:
        began = time.perf_counter()
        (await client.post("/v1/images/generations", json=body)).raise_for_status()
        found.append((time.perf_counter() - began, body["n"]))

    tasks, due, began = [], 0.0, time.perf_counter()
    while (due := due + chance.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(next(bodies))))
    await asyncio.gather(*tasks)
    return found


def figures(found: list[tuple[float, int]], elapsed: float) -> dict[str, float]:
    """Images a second, and percentiles of the latency in seconds."""
    ordered = sorted(latency for latency, _ in found)
    cuts = {
        f"p{q}": ordered[min(int(q / 100 * len(ordered)), len(ordered) - 1)] for q in (50, 95, 99)
    }
    return {"requests": len(found), "images_per_second": sum(n for _, n in found) / elapsed, **cuts}


async def measure(name: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One round of both clients against one server."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving",
        "--serve",
        name,
        "--model",
        options.model,
        "--precision",
        options.precision,
    ]
    process = subprocess.Popen(command)
    try:
        limits = httpx2.Limits(max_connections=None)
        address = f"http://127.0.0.1:{PORT}"
        async with httpx2.AsyncClient(base_url=address, timeout=1e4, limits=limits) as client:
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)
            await closed(client, 2, 2.0)  # warms up
            results = {}
            began = time.perf_counter()
            found = await closed(client, options.users, options.seconds)
            results["closed"] = figures(found, time.perf_counter() - began)
            for rate in options.rates:
                began = time.perf_counter()
                found = await opened(client, rate, options.seconds)
                results[f"open {rate:g}/s"] = figures(found, time.perf_counter() - began)
            return results
    finally:
        process.kill()
        process.wait()


def plot(rounds: dict[str, list[dict[str, dict[str, float]]]], path: Path) -> None:
    """Latency percentiles of each server, a panel a client."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    clients = list(next(iter(rounds.values()))[0])
    figure, panels = pyplot.subplots(1, len(clients), figsize=(4.5 * len(clients), 3.5))
    for panel, client in zip(panels, clients, strict=True):
        for place, (name, results) in enumerate(rounds.items()):
            values = [median_of(results, client, cut) for cut in ("p50", "p95", "p99")]
            panel.bar([i + 0.25 * place for i in range(3)], values, 0.25, label=name)
        panel.set(title=client, ylabel="seconds", xticks=[0.25, 1.25, 2.25])
        panel.set_xticklabels(["p50", "p95", "p99"])
        panel.legend()
    figure.tight_layout()
    figure.savefig(path)


def median_of(results: list[dict[str, dict[str, float]]], client: str, figure: str) -> float:
    """A figure of a client, the median of all rounds."""
    return statistics.median(result[client][figure] for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--servers", nargs="+", default=SERVERS[:3], choices=SERVERS)
    parser.add_argument("--model", default=default_model(), help="a name or a folder")
    parser.add_argument("--precision", choices=list(DTYPES), default="fp32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--users", type=int, default=16, help="of the closed client")
    parser.add_argument("--rates", type=float, nargs="+", default=[3.0], help="requests a second")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.model, options.precision)
        return
    rounds: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in options.servers}
    for _ in range(options.rounds):
        for name in options.servers:
            rounds[name].append(asyncio.run(measure(name, options)))
            print(name, json.dumps(rounds[name][-1]), flush=True)
    first = options.servers[-1]
    print(f"\nmedians: images a second, p50, p95, p99 in seconds; ratios to {first}")
    for client in rounds[first][0]:
        for name in options.servers:
            keys = ("images_per_second", "p50", "p95", "p99")
            ours = [median_of(rounds[name], client, key) for key in keys]
            base = [median_of(rounds[first], client, key) for key in keys]
            told = "  ".join(f"{a:6.2f} ({a / b:4.2f})" for a, b in zip(ours, base, strict=True))
            print(f"{client:12} {name:9} {told}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "serving.json").write_text(json.dumps(rounds, indent=2) + "\n")
        plot(rounds, options.out / "serving.png")


if __name__ == "__main__":
    main()
