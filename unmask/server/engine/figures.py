"""The figures that an engine keeps of itself, as plain values."""

import statistics
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from unmask.server.engine.spreads import ROWS, Spread

# What a request spends its time in: waiting for its turn; the encoding of its prompt, for each
# image; all steps of a row; and turning a row's tokens into pixels.
Stage = Literal["queue", "encode", "steps", "decode"]

KEPT = 1000  # of the last steps and requests
WARM_UP = 3  # first steps of a model, which are slower than all that follow
FEWEST_STEPS = 5  # after those, from which to tell how long others take
FADE = 0.98  # what a step counts when one more was measured


@dataclass(frozen=True)
class Latency:
    """Seconds over the last requests or steps; 0 if there were none."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Stats:
    """What an engine does now, and has done."""

    ready_workers: int
    queued: int
    queued_seconds: float  # estimated
    running: int  # rows
    admitted: int
    finished: int
    failed: int
    cancelled: int
    refused: int
    deaths: int  # of workers
    steps: int
    rows_per_step: float
    rows_per_second: float
    padding: float  # share of the computed rows that were padding
    step: Latency
    wait: Latency  # in the queue
    draw: Latency  # from leaving it to the last image
    busy: float  # share of the ticks' time that was spent in steps and in decoding
    models: dict[str, int]  # bytes of weights of each that is loaded, all workers together
    loads: dict[str, int]  # of each model, since the start
    # Since the start, by model; those of stages by stage and model.
    step_seconds: dict[str, Spread]
    step_rows: dict[str, Spread]
    stages: dict[tuple[Stage, str], Spread]


class StepTimes:
    """How long a step of a model takes, by its work: base + slope * work, fitted to the steps of
    late. With steps of one size only, all of it counts as base: less than that no step takes."""

    def __init__(self) -> None:
        self._seen = 0
        self._sums: tuple[float, ...] = (
            0.0,
        ) * 5  # of 1, work, seconds, work * work, work * seconds

    def add(self, work: float, seconds: float) -> None:
        """A step of so much work took so long."""
        self._seen += 1
        if self._seen > WARM_UP:
            terms = (1.0, work, seconds, work * work, work * seconds)
            self._sums = tuple(
                FADE * total + term for total, term in zip(self._sums, terms, strict=True)
            )

    @property
    def measured(self) -> bool:
        """Whether there were steps enough to tell anything."""
        return self._seen >= WARM_UP + FEWEST_STEPS

    def step_seconds(self, work: float) -> float:
        """How long a step of so much work takes; 0 before anything was measured."""
        if not self.measured:
            return 0.0
        count, *totals = self._sums
        mean_work, mean_seconds, mean_square, mean_product = (total / count for total in totals)
        slope, spread = 0.0, mean_square - mean_work**2
        if spread > 1e-6 * mean_square:
            slope = (mean_product - mean_work * mean_seconds) / spread
        slope = min(max(slope, 0.0), mean_seconds / mean_work)
        return mean_seconds + slope * (work - mean_work)

    def seconds(self, work: float) -> float:
        """How long so much work takes in batches as they are; 0 before anything was measured."""
        return work * self._sums[2] / self._sums[1] if self.measured else 0.0


class Figures:
    """Counters that workers and the front write and anybody may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._step_seconds: deque[float] = deque(maxlen=KEPT)
        self._step_rows: deque[int] = deque(maxlen=KEPT)
        self._waits: deque[float] = deque(maxlen=KEPT)
        self._draws: deque[float] = deque(maxlen=KEPT)
        self._computed = self._padded = 0
        self._tick_seconds = self._busy_seconds = 0.0
        self._times: dict[str, StepTimes] = {}
        # By the keys of models, or by stage and key.
        self._all_seconds: defaultdict[str, Spread] = defaultdict(Spread)
        self._all_rows: defaultdict[str, Spread] = defaultdict(lambda: Spread(ROWS))
        self._stages: defaultdict[tuple[Stage, str], Spread] = defaultdict(Spread)

    def count(self, name: str) -> None:
        """One more of it."""
        with self._lock:
            self._counts[name] += 1

    def stepped(self, model: str, seconds: float, rows: int, work: float) -> None:
        """A step of a model took so long for so many rows and so much work."""
        with self._lock:
            self._counts["steps"] += 1
            self._step_seconds.append(seconds)
            self._step_rows.append(rows)
            self._busy_seconds += seconds
            self._times.setdefault(model, StepTimes()).add(work, seconds)
            self._all_seconds[model].add(seconds)
            self._all_rows[model].add(rows)

    def computed(self, rows: int, padded: int) -> None:
        """So many rows went through a backbone, of which so many were padding."""
        with self._lock:
            self._computed += rows
            self._padded += padded

    def spent(self, stage: Stage, model: str, seconds: float) -> None:
        """A request, an image or a row of a model was in a stage so long."""
        with self._lock:
            self._stages[stage, model].add(seconds)
            if stage == "queue":
                self._waits.append(seconds)

    def busy(self, seconds: float) -> None:
        """A worker was busy so long with what is no step."""
        with self._lock:
            self._busy_seconds += seconds

    def ticked(self, seconds: float) -> None:
        """A tick of a worker took so long."""
        with self._lock:
            self._tick_seconds += seconds

    def drawn(self, seconds: float) -> None:
        """A request was drawn in so long."""
        with self._lock:
            self._draws.append(seconds)

    def times(self, model: str) -> StepTimes:
        """How long steps of a model take."""
        with self._lock:
            return self._times.setdefault(model, StepTimes())

    def read(
        self,
        *,
        ready_workers: int,
        queued: int,
        queued_seconds: float,
        running: int,
        models: dict[str, int],
        loads: dict[str, int],
        names: Mapping[str, str],
    ) -> Stats:
        """All figures, with those that only the engine knows, such as the names of models by their
        keys."""
        with self._lock:
            seconds = sum(self._step_seconds)
            return Stats(
                ready_workers=ready_workers,
                queued=queued,
                queued_seconds=queued_seconds,
                running=running,
                models=models,
                loads=loads,
                step_seconds={
                    names[key]: spread.copy() for key, spread in self._all_seconds.items()
                },
                step_rows={names[key]: spread.copy() for key, spread in self._all_rows.items()},
                stages={
                    (stage, names[key]): spread.copy()
                    for (stage, key), spread in self._stages.items()
                },
                admitted=self._counts["admitted"],
                finished=self._counts["finished"],
                failed=self._counts["failed"],
                cancelled=self._counts["cancelled"],
                refused=self._counts["refused"],
                deaths=self._counts["deaths"],
                steps=self._counts["steps"],
                rows_per_step=statistics.fmean(self._step_rows) if self._step_rows else 0.0,
                rows_per_second=sum(self._step_rows) / seconds if seconds else 0.0,
                padding=self._padded / self._computed if self._computed else 0.0,
                step=_latency(self._step_seconds),
                wait=_latency(self._waits),
                draw=_latency(self._draws),
                busy=self._busy_seconds / self._tick_seconds if self._tick_seconds else 0.0,
            )


def _latency(seconds: deque[float]) -> Latency:
    ordered = sorted(seconds)
    if not ordered:
        return Latency(0.0, 0.0, 0.0)
    return Latency(
        *(ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in (0.5, 0.95, 0.99))
    )
