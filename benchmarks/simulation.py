"""Servers that draw nothing: arrivals, batches and autoscaling as events of a clock.

What is decided is decided by the server's own code: who is next (``FairQueue``), whose rows are
stepped (``Shares``), how long work takes by what was measured (``StepTimes``), which replica is
asked and how many there should be (``balance``). Simulated are only the time that these things
take, and the worker's loop: it begins what there is room for, steps, and turns into pixels what is
done, all one after another.
"""

import heapq
import itertools
import math
import random
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from unmask.server.engine.costs import Cost, OpenedModel, WeighedRequest
from unmask.server.engine.engine import CPU_STEP_ROWS
from unmask.server.engine.figures import StepTimes
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.shares import Shares
from unmask.server.engine.strands import Run
from unmask.server.engine.tickets import Ticket
from unmask.server.replicas.balance import (
    QUEUED_SECONDS,
    REQUEST_SECONDS,
    WORKING,
    ByQueuedSeconds,
    Sent,
    by_work,
    told_for_scaling,
)

STATS_SECONDS = 0.2  # between what a replica tells of itself
SCALING_SECONDS = 1.0  # between decisions
MODEL = "model"

Arrival = tuple[float, Cost]


@dataclass(frozen=True)
class Machine:
    """What a replica takes for its work, in seconds, and its bounds, which are the engine's."""

    step: float  # of each step, whatever is in it
    work: float  # more for each token and pass
    encode: float = 0.0  # of each image, before its steps
    decode: float = 0.0  # of each image, after them
    answer: float = 0.0  # of each request, beside its images: HTTP and files, on the same core
    max_rows: int = 16
    step_rows: int = CPU_STEP_ROWS
    max_queue: int = 64

    def alone(self, cost: Cost) -> float:
        """How long a request of one image takes where there is no other."""
        steps = cost.steps * self.step + self.work * cost.work / cost.images
        return self.encode + steps + self.decode + self.answer

    def most(self, cost: Cost) -> float:
        """Images a second, if as many rows are stepped together as may be."""
        work = cost.work / cost.images
        steps = cost.steps * self.step / self.step_rows + self.work * work
        return 1 / (self.encode + steps + self.decode + self.answer / cost.images)


@dataclass(frozen=True)
class Scaling:
    """Autoscaling as Ray Serve does it with ``ByQueuedSeconds``."""

    least: int = 1
    most: int = 8
    policy: ByQueuedSeconds = field(default_factory=ByQueuedSeconds)
    look_back: float = 10.0
    up_delay: float = 10.0
    down_delay: float = 300.0
    start: float = 20.0  # until a new replica draws


@dataclass
class Outcome:
    """What became of all requests; times in seconds."""

    latencies: list[float] = field(default_factory=list)
    images: int = 0
    arrived: int = 0
    refused: int = 0
    left: int = 0  # neither refused nor done, at the end
    busy: float = 0.0  # of all replicas together
    replica_seconds: float = 0.0
    ended: float = 0.0
    replicas: list[tuple[float, int]] = field(default_factory=list)  # how many from when on

    @property
    def utilisation(self) -> float:
        """The share of the replicas' time in which they worked."""
        return self.busy / self.replica_seconds if self.replica_seconds else 0.0

    def percentile(self, part: float) -> float:
        """Of the latencies; 0 if nothing was answered."""
        ordered = sorted(self.latencies)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


@dataclass(eq=False)
class _Row:
    """An image that is drawn: what ``Shares`` asks of a run."""

    ticket: Ticket
    row: Any
    turn: int = 0
    steps: int = 0

    @classmethod
    def of(cls, ticket: Ticket) -> "_Row":
        null = ticket.cost.passes / ticket.cost.steps - 1
        plan = SimpleNamespace(tokens=ticket.cost.tokens)
        return cls(ticket, SimpleNamespace(plan=plan, now=SimpleNamespace(null=null)))

    @property
    def work(self) -> float:
        """Of one step."""
        return float(self.row.plan.tokens * (1 + self.row.now.null))


class _Replica:
    """One worker, whose ``tick`` tells how long it takes, and ends in ``end``."""

    def __init__(self, machine: Machine, times: StepTimes, since: float) -> None:
        self.machine, self.times = machine, times
        self.queue, self.shares = FairQueue(), Shares(machine.max_rows)
        self.open: dict[Ticket, int] = {}  # with the images that are not done
        self.unbegun: list[Ticket] = []  # one for each image
        self.rows: list[_Row] = []
        self.chosen: list[_Row] = []
        self.since, self.busy_seconds = since, 0.0
        self.drew: deque[float] = deque(maxlen=100)
        self.ticking = self.draining = False
        self.routing_stats: dict[str, float] = {}

    @property
    def queued_seconds(self) -> float:
        """As the engine reckons it."""
        return sum(self.times.seconds(each.cost.work * each.left) for each in self.open)

    @property
    def request_seconds(self) -> float:
        """How long requests take from their beginning."""
        return statistics.median(self.drew) if self.drew else 0.0

    def take(self, ticket: Ticket) -> bool:
        """Take a request in, or refuse it."""
        if len(self.queue) >= self.machine.max_queue:
            return False
        self.open[ticket] = ticket.cost.images
        self.queue.put(ticket)
        return True

    def tick(self, now: float) -> float:
        """Begin what there is room for and step what is next: the seconds that it takes."""
        seconds = 0.0
        while len(self.rows) < self.machine.max_rows:
            if not self.unbegun:
                ticket = self.queue.take("worker")
                if ticket is None:
                    break
                ticket.began = now
                self.unbegun = [ticket] * ticket.cost.images
            self.rows.append(_Row.of(self.unbegun.pop()))
            seconds += self.machine.encode
        most = min(self.machine.max_rows, self.machine.step_rows)
        self.chosen = cast(list[_Row], self.shares.choose(cast(list[Run], self.rows), most))
        work = sum(row.work for row in self.chosen)
        step = self.machine.step + self.machine.work * work
        self.times.add(work, step)
        done = Counter(row.ticket for row in self.chosen if row.steps + 1 == row.ticket.cost.steps)
        answered = sum(images == self.open[ticket] for ticket, images in done.items())
        seconds += step + done.total() * self.machine.decode + answered * self.machine.answer
        self.busy_seconds += seconds
        return seconds

    def end(self, now: float) -> list[Ticket]:
        """The tick is over: the requests that are done."""
        finished = []
        for row in self.chosen:
            row.steps += 1
            row.ticket.progress()
            if row.steps == row.ticket.cost.steps:
                self.rows.remove(row)
                self.open[row.ticket] -= 1
                if not self.open[row.ticket]:
                    del self.open[row.ticket]
                    finished.append(row.ticket)
                    self.drew.append(now - (row.ticket.began or 0.0))
        return finished


class Simulation:
    """Runs ``arrivals``, which must be in order, on replicas of a machine until all are answered,
    or until ``until``."""

    def __init__(
        self,
        machine: Machine,
        replicas: int = 1,
        scaling: Scaling | None = None,
        until: float = float("inf"),
    ) -> None:
        self.machine, self.scaling, self.until = machine, scaling, until
        self.now, self.outcome = 0.0, Outcome()
        self._times, self._sent = StepTimes(), Sent()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._replicas: list[_Replica] = []
        self._next: Arrival | None = None
        self._starting = 0
        self._told: list[tuple[float, Counter[str]]] = []  # when, and of all replicas the sum
        self._since: tuple[int, float] | None = None  # which way the policy pulls, since when
        for _ in range(scaling.least if scaling else replicas):
            self._add()

    def run(self, arrivals: Iterable[Arrival]) -> Outcome:
        """What became of them."""
        coming = iter(arrivals)
        self._expect(coming)
        self._every(STATS_SECONDS, self._tell)
        if self.scaling:
            self._every(SCALING_SECONDS, self._scale)
        while self._events and self._events[0][0] <= self.until and not self._over:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.outcome.ended = min(self.now, self.until)
        for replica in self._replicas:
            self._leave(replica)
        return self.outcome

    @property
    def _over(self) -> bool:
        return self._next is None and not any(replica.open for replica in self._replicas)

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _every(self, seconds: float, happen: Callable[[], None]) -> None:
        def again() -> None:
            happen()
            self._at(self.now + seconds, again)

        self._at(self.now, again)

    def _expect(self, coming: Iterator[Arrival]) -> None:
        self._next = next(coming, None)
        if self._next is not None:
            when, cost = self._next

            def arrive() -> None:
                self._arrive(cost)
                self._expect(coming)

            self._at(when, arrive)

    def _arrive(self, cost: Cost) -> None:
        self.outcome.arrived += 1
        self.outcome.left += 1
        model = OpenedModel(MODEL, cast(Any, None))  # which draws nothing
        ticket = Ticket(WeighedRequest(model, cast(Any, None), cost), arrived=self.now)
        # As Ray does it: of those with the least work the one with the fewest requests.
        best = by_work(
            (replica for replica in self._replicas if not replica.draining),
            sent=lambda replica: self._sent.of(replica, replica.routing_stats),
        )[0]
        replica = min(best, key=lambda replica: len(replica.open))
        if not replica.take(ticket):
            self.outcome.refused += 1
            self.outcome.left -= 1
            return
        self._sent.add(replica, replica.routing_stats, 1)
        if not replica.ticking:
            self._tick(replica)

    def _tick(self, replica: _Replica) -> None:
        replica.ticking = bool(replica.open)
        if replica.ticking:
            self._at(self.now + replica.tick(self.now), lambda: self._end(replica))
        elif replica.draining:
            self._leave(replica)
            self._replicas.remove(replica)

    def _end(self, replica: _Replica) -> None:
        for ticket in replica.end(self.now):
            self._sent.add(replica, replica.routing_stats, -1)
            self.outcome.left -= 1
            self.outcome.images += ticket.cost.images
            self.outcome.latencies.append(self.now - ticket.arrived)
        self._tick(replica)

    def _add(self) -> None:
        self._replicas.append(_Replica(self.machine, self._times, self.now))
        self._note()

    def _note(self) -> None:
        serving = sum(not replica.draining for replica in self._replicas)
        self.outcome.replicas.append((self.now, serving))

    def _leave(self, replica: _Replica) -> None:
        self.outcome.busy += replica.busy_seconds
        self.outcome.replica_seconds += min(self.now, self.until) - replica.since

    def _tell(self) -> None:
        for replica in self._replicas:
            replica.routing_stats = {
                QUEUED_SECONDS: replica.queued_seconds,
                REQUEST_SECONDS: replica.request_seconds,
            }

    def _scale(self) -> None:
        assert self.scaling is not None
        scaling = self.scaling
        serving = [replica for replica in self._replicas if not replica.draining]
        told = Counter[str]()
        for replica in serving:
            told.update(told_for_scaling(replica.queued_seconds, bool(replica.open)))
        self._told = [each for each in self._told if each[0] > self.now - scaling.look_back]
        self._told.append((self.now, told))
        queued, working = (
            statistics.fmean(sums[name] for _, sums in self._told)
            for name in (QUEUED_SECONDS, WORKING)
        )
        wanted = scaling.policy.wanted([queued], [working])
        target = min(max(math.ceil(wanted), scaling.least), scaling.most)
        there = len(serving) + self._starting
        way = (target > there) - (target < there)
        if not way or self._since is None or self._since[0] != way:
            self._since = (way, self.now) if way else None
        if self._since is None:
            return
        delay = scaling.up_delay if way > 0 else scaling.down_delay
        if self.now - self._since[1] < delay:
            return
        self._since = None
        for _ in range(target - there):
            self._starting += 1
            self._at(self.now + scaling.start, self._begin)
        for replica in serving[: max(0, there - target)][: len(serving) - 1]:
            replica.draining = True
            self._note()
            if not replica.ticking:
                self._tick(replica)

    def _begin(self) -> None:
        self._starting -= 1
        self._add()


def poisson(rate: float, seconds: float, cost: Cost, seed: int = 0) -> Iterator[Arrival]:
    """Requests that come at random, so many a second for so long."""
    chance, now = random.Random(seed), 0.0
    while (now := now + chance.expovariate(rate)) < seconds:
        yield now, cost
