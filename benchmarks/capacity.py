"""How many machines so many users need: ``python -m benchmarks.capacity``.

- ``measure --out FILE``: what a picture takes on this machine, from a real server that is asked by
  one user, and by several at once.
- ``check --inputs FILE``: the same requests at the same moments for a real server and for the
  simulation (``benchmarks.simulation``), side by side.
- ``sizes --inputs FILE``: machines, waits, memory and machine-hours for 1 to 100,000 users, and
  what autoscaling saves of a rush.

A replica is one worker with one thread. Server and client share what cores they are given: with
``taskset -c 1`` one.
"""

import argparse
import asyncio
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import torch

from benchmarks.simulation import Arrival, Machine, Outcome, Scaling, Simulation, poisson
from benchmarks.soak import served
from unmask.server.engine.costs import Cost, weigh
from unmask.server.engine.sources import StoredModels
from unmask.server.http.server import Server
from unmask.store import default_model

PROMPT = "a red apple to the left of a blue book on a yellow background"
USERS = (1, 10, 1_000, 100_000)
SHARE = 0.7  # of what a replica can do at most, that it is meant to do
FEWEST_SECONDS = 20.0  # of a simulation
TOGETHER = 6  # users, when several ask at once


@dataclass(frozen=True)
class Inputs:
    """What was measured."""

    model: str
    machine: Machine
    cost: Cost
    resident_bytes: int  # of the process with its server and the client that asks
    weights_bytes: int

    @classmethod
    def read(cls, path: Path) -> "Inputs":
        """Those that ``measure`` wrote."""
        told = json.loads(path.read_text(encoding="utf-8"))
        told["machine"], told["cost"] = Machine(**told["machine"]), Cost(**told["cost"])
        return cls(**told)


def _body(seed: int) -> dict[str, Any]:
    return {"prompt": PROMPT, "seed": seed}


async def _timed(client: httpx2.AsyncClient, seed: int) -> float:
    began = time.perf_counter()
    (await client.post("/v1/images/generations", json=_body(seed))).raise_for_status()
    return time.perf_counter() - began


def _client(server: Server) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    address = f"http://127.0.0.1:{server.bound_port}"
    return httpx2.AsyncClient(base_url=address, timeout=600, limits=limits)


class Sums:
    """Counts and seconds of the engine's stages since this was made."""

    def __init__(self, server: Server, model: str) -> None:
        self._server, self._model = server, model
        self._before = self._read()

    def _read(self) -> dict[str, tuple[int, float]]:
        stats = self._server.engine.stats()
        spreads = {
            "steps": stats.step_seconds.get(self._model),
            "rows": stats.step_rows.get(self._model),
            "encode": stats.stages.get(("encode", self._model)),
            "decode": stats.stages.get(("decode", self._model)),
        }
        return {name: (each.count, each.total) for name, each in spreads.items() if each}

    def mean(self, name: str) -> float:
        """Seconds of each, or rows of each step."""
        count, total = self._read()[name]
        before = self._before.get(name, (0, 0.0))
        return (total - before[1]) / (count - before[0])

    @property
    def busy(self) -> float:
        """Seconds in which the worker worked."""
        now = self._read()
        return sum(
            now[name][1] - self._before.get(name, (0, 0.0))[1]
            for name in ("steps", "encode", "decode")
        )


async def _measure(server: Server, model: str, requests: int) -> Machine:
    cost = await _cost(server)
    row = cost.work / (cost.images * cost.steps)
    async with _client(server) as client:
        for seed in range(5):  # the first steps are slower
            await _timed(client, seed)
        alone = Sums(server, model)
        seconds = [await _timed(client, seed) for seed in range(requests)]
        encode, decode, one = (alone.mean(name) for name in ("encode", "decode", "steps"))
        together = Sums(server, model)

        async def user(first: int) -> None:
            for seed in range(first, first + requests // 2):
                await _timed(client, seed)

        await asyncio.gather(*(user(1000 * number) for number in range(TOGETHER)))
        several, rows = together.mean("steps"), together.mean("rows")
    work = max(0.0, several - one) / ((rows - 1) * row)
    rest = statistics.median(seconds) - encode - decode - cost.steps * one
    return Machine(
        step=one - work * row, work=work, encode=encode, decode=decode, answer=max(0.0, rest)
    )


async def _cost(server: Server) -> Cost:
    model = await _opened(server)
    return weigh(model, model.pipeline.request(PROMPT)).cost


async def _opened(server: Server) -> Any:
    future = asyncio.run_coroutine_threadsafe(server.engine.open(), _loop_of(server))
    return await asyncio.wrap_future(future)


def _loop_of(server: Server) -> asyncio.AbstractEventLoop:
    loop = server.engine._loop
    assert loop is not None, "the engine has started"
    return loop


def measure(model: str, requests: int) -> Inputs:
    """What a picture takes here, of a model's default request."""
    with served(StoredModels("fp32"), [model]) as server:
        name = server.engine.models[0].name
        machine = asyncio.run(_measure(server, name, requests))
        cost = asyncio.run(_cost(server))
        weights = sum(server.engine.stats().models.values())
        status = Path("/proc/self/status").read_text()
        [resident] = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return Inputs(name, machine, cost, int(resident.split()[1]) * 1024, weights)


async def replay(server: Server, arrivals: Sequence[Arrival]) -> Outcome:
    """A real server's answers to requests at these moments."""
    outcome, began = Outcome(), time.perf_counter()

    async def ask(due: float, seed: int) -> None:
        answer = await client.post("/v1/images/generations", json=_body(seed))
        if answer.status_code == 429:
            outcome.refused += 1
            return
        answer.raise_for_status()
        outcome.images += 1
        outcome.latencies.append(time.perf_counter() - began - due)

    async with _client(server) as client:
        tasks = []
        for seed, (due, _) in enumerate(arrivals):
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            outcome.arrived += 1
            tasks.append(asyncio.create_task(ask(due, seed)))
        await asyncio.gather(*tasks)
    outcome.ended = time.perf_counter() - began
    return outcome


def check(inputs: Inputs, model: str, loads: Sequence[float], seconds: float) -> None:
    """Print what a real server and the simulation did with the same requests."""
    machine, cost = inputs.machine, inputs.cost
    print("| load | requests | | mean s | p50 s | p95 s | busy | refused |")
    print("|---|---|---|---|---|---|---|---|")
    with served(StoredModels("fp32"), [model]) as server:
        machine = dataclasses.replace(machine, max_queue=server.engine.options.max_queue)
        asyncio.run(replay(server, [(0.0, cost)] * 5))
        for load in loads:
            arrivals = list(poisson(load * machine.most(cost), seconds, cost))
            sums = Sums(server, inputs.model)
            real = asyncio.run(replay(server, arrivals))
            # The worker's own figures know nothing of answers.
            real.busy = sums.busy + machine.answer * len(real.latencies)
            real.replica_seconds = real.ended
            for name, outcome in (
                ("server", real),
                ("simulation", Simulation(machine).run(arrivals)),
            ):
                print(
                    f"| {load:g} | {outcome.arrived} | {name} | "
                    f"{statistics.fmean(outcome.latencies):.3f} | {outcome.percentile(0.5):.3f} | "
                    f"{outcome.percentile(0.95):.3f} | {outcome.utilisation:.2f} | "
                    f"{outcome.refused} |",
                    flush=True,
                )


def sizes(inputs: Inputs, pictures_an_hour: float, requests: int) -> None:
    """Print what numbers of users need."""
    machine, cost = inputs.machine, inputs.cost
    most = machine.most(cost)
    print(f"alone {machine.alone(cost):.3f} s, at most {most:.2f} pictures a second a replica")
    print(
        "| users | pictures a second | replicas | busy | p50 s | p95 s | memory GB | "
        "machine-hours for 1,000 pictures |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for users in USERS:
        rate = users * pictures_an_hour / 3600
        replicas = math.ceil(rate / (SHARE * most))
        arrivals = poisson(rate, max(requests / rate, FEWEST_SECONDS), cost)
        outcome = Simulation(machine, replicas).run(arrivals)
        print(
            f"| {users:,} | {rate:.3g} | {replicas} | {outcome.utilisation:.2f} | "
            f"{outcome.percentile(0.5):.2f} | {outcome.percentile(0.95):.2f} | "
            f"{replicas * inputs.resident_bytes / 1e9:.1f} | {1000 * replicas / rate / 3600:.2f} |",
            flush=True,
        )
    print("\n| a rush | replicas | refused | p95 s | machine-hours |\n|---|---|---|---|---|")
    quiet, rush, needed = 0.3 * most, 4 * SHARE * most, 4
    for name, replicas, scaling in (
        ("fixed, for the quiet", 1, None),
        ("fixed, for the rush", needed, None),
        ("by queued seconds", 1, Scaling(most=2 * needed)),
    ):
        outcome = Simulation(machine, replicas, scaling).run(_rush(cost, quiet, rush))
        numbers = [number for _, number in outcome.replicas]
        print(
            f"| {name} | {min(numbers[replicas - 1 :])} to {max(numbers)} | {outcome.refused} of "
            f"{outcome.arrived} | {outcome.percentile(0.95):.2f} | "
            f"{outcome.replica_seconds / 3600:.2f} |",
            flush=True,
        )


def _rush(cost: Cost, quiet: float, rush: float) -> list[Arrival]:
    """Half an hour of a few requests a second, ten minutes of many, and half an hour of few."""
    arrivals: list[Arrival] = []
    began = 0.0
    for seed, (rate, seconds) in enumerate(((quiet, 1800.0), (rush, 600.0), (quiet, 1800.0))):
        arrivals += [(began + when, each) for when, each in poisson(rate, seconds, cost, seed)]
        began += seconds
    return arrivals


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("measure", "check", "sizes"))
    parser.add_argument("--model", default=default_model(), help="a name or a folder")
    parser.add_argument("--inputs", type=Path, help="what measure wrote; measured now if left out")
    parser.add_argument("--out", type=Path, help="where measure writes")
    parser.add_argument("--requests", type=int, help="of measure (40), of each simulation (3000)")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.3, 0.6, 0.8])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load of check")
    parser.add_argument("--pictures-an-hour", type=float, default=60.0, help="of a user")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.inputs is not None:
        inputs = Inputs.read(options.inputs)
    else:
        inputs = measure(options.model, options.requests or 40)
    told = json.dumps(dataclasses.asdict(inputs), indent=2)
    if options.command == "measure":
        print(told)
        if options.out is not None:
            options.out.write_text(told + "\n", encoding="utf-8")
    elif options.command == "check":
        check(inputs, options.model, options.loads, options.seconds)
    else:
        sizes(inputs, options.pictures_an_hour, options.requests or 3000)


if __name__ == "__main__":
    main()
