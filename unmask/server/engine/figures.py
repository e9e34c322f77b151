"""The figures that an engine keeps of itself, as plain values."""

import statistics
import threading
from collections import Counter, deque
from dataclasses import dataclass

KEPT = 1000  # of the last steps and requests


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


class Figures:
    """Counters that workers and the front write and anybody may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.step_seconds: deque[float] = deque(maxlen=KEPT)
        self.step_rows: deque[int] = deque(maxlen=KEPT)
        self.waits: deque[float] = deque(maxlen=KEPT)
        self.draws: deque[float] = deque(maxlen=KEPT)
        self.computed = self.padded = 0
        self.tick_seconds = self.busy_seconds = 0.0
        self._rate = 0.0

    def count(self, name: str) -> None:
        """One more of it."""
        with self._lock:
            self.counts[name] += 1

    def stepped(self, seconds: float, rows: int, work: float, computed: int, padded: int) -> None:
        """A step took so long for so many rows and so much work (tokens times passes)."""
        with self._lock:
            self.counts["steps"] += 1
            self.step_seconds.append(seconds)
            self.step_rows.append(rows)
            self.computed += computed
            self.padded += padded
            self.busy_seconds += seconds
            rate = work / max(seconds, 1e-9)
            self._rate = rate if not self._rate else 0.95 * self._rate + 0.05 * rate

    @property
    def rate(self) -> float:
        """Tokens times passes a second that one worker does; 0 before the first step."""
        return self._rate

    def read(self, **now: object) -> Stats:
        """All figures, with those that only the engine knows."""
        with self._lock:
            seconds = sum(self.step_seconds)
            return Stats(
                admitted=self.counts["admitted"],
                finished=self.counts["finished"],
                failed=self.counts["failed"],
                cancelled=self.counts["cancelled"],
                refused=self.counts["refused"],
                deaths=self.counts["deaths"],
                steps=self.counts["steps"],
                rows_per_step=statistics.fmean(self.step_rows) if self.step_rows else 0.0,
                rows_per_second=sum(self.step_rows) / seconds if seconds else 0.0,
                padding=self.padded / self.computed if self.computed else 0.0,
                step=_latency(self.step_seconds),
                wait=_latency(self.waits),
                draw=_latency(self.draws),
                busy=self.busy_seconds / self.tick_seconds if self.tick_seconds else 0.0,
                **now,  # type: ignore[arg-type]
            )


def _latency(seconds: deque[float]) -> Latency:
    ordered = sorted(seconds)
    if not ordered:
        return Latency(0.0, 0.0, 0.0)
    return Latency(
        *(ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in (0.5, 0.95, 0.99))
    )
