"""The metrics of a server, as Prometheus reads them: what is counted at the edge, and the engine's
own figures, which are read when they are asked for.

Labels are bounded, for each of their values is kept for ever: names of models and keys, paths as
the document has them, statuses and codes. An address is no label.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from unmask.devices import reserved_bytes
from unmask.server.engine.figures import Stats
from unmask.server.engine.spreads import SECONDS, Spread
from unmask.server.telemetry.accounts import Account

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NO_ROUTE = "none"  # what no route answered: an unknown path, or a refusal at the door
OTHER = "OTHER"  # a client may send any word as a method
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")
GONE = "client_gone"
CLIENT_GONE = 499


@dataclass(frozen=True)
class EngineView:
    """What metrics ask an engine for."""

    stats: Callable[[], Stats]
    max_queue: int
    max_rows: int


class Metrics:
    """All metrics of one app."""

    def __init__(self, engine: EngineView, key_names: Callable[[], Iterable[str]]) -> None:
        """``key_names``: those that may be labels."""
        self._key_names = key_names
        # When each was counted first: as many lines again, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(EngineCollector(engine))
        self._requests = Counter(
            "unmask_requests",
            "Requests that were answered.",
            ["route", "method", "status", "key"],
            registry=registry,
        )
        self._seconds = Histogram(
            "unmask_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._answer = Histogram(
            "unmask_answer_seconds",
            "From the last image of a request to the end of its answer: files are made and sent.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "unmask_refused",
            "Requests that ended in an error, by its code.",
            ["reason", "key"],
            registry=registry,
        )
        self._images = Counter(
            "unmask_images", "Images that were drawn.", ["model", "key"], registry=registry
        )
        self._tokens = Counter(
            "unmask_tokens", "Picture tokens that were drawn.", ["model", "key"], registry=registry
        )

    def text(self) -> bytes:
        """All of them, as they are now."""
        return generate_latest(self.registry)

    def drew(self, model: str, sender: str, images: int, tokens: int) -> None:
        """So much was drawn for a sender."""
        key = sender if sender in self._key_names() else ""
        self._images.labels(model, key).inc(images)
        self._tokens.labels(model, key).inc(tokens)

    def answered(self, account: Account, method: str, status: int, end: float) -> None:
        """A request has its answer, or nobody waits for one."""
        route = account.route or NO_ROUTE
        known = method if method in METHODS else OTHER
        self._requests.labels(route, known, str(status), account.key).inc()
        self._seconds.labels(route).observe(end - account.began)
        if account.drawn_at:
            self._answer.labels(account.model).observe(end - account.drawn_at)
        if status == CLIENT_GONE:
            self._refused.labels(GONE, account.key).inc()
        elif account.code:
            self._refused.labels(account.code, account.key).inc()


class EngineCollector(Collector):
    """The engine's figures, in Prometheus's words."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    def describe(self) -> Iterable[Metric]:
        """Nothing: so an engine is not asked before it is there."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The figures of now."""
        stats, engine = self._engine.stats(), self._engine
        gauges = {
            "unmask_workers": ("Workers that draw.", stats.ready_workers),
            "unmask_queue": ("Requests that wait.", stats.queued),
            "unmask_queue_limit": ("Requests that may wait.", engine.max_queue),
            "unmask_queue_work_seconds": (
                "What is left to be drawn would take so long.",
                stats.queued_seconds,
            ),
            "unmask_rows": ("Rows that are being drawn.", stats.running),
            "unmask_rows_limit": ("Rows that one worker may draw.", engine.max_rows),
            "unmask_padding_ratio": ("Share of computed rows that are padding.", stats.padding),
            "unmask_busy_ratio": ("Share of the workers' time in steps and decoding.", stats.busy),
        }
        for name, (meaning, value) in gauges.items():
            yield GaugeMetricFamily(name, meaning, value)
        drawings = CounterMetricFamily(
            "unmask_drawings", "Requests to the engine, by how they ended.", labels=["end"]
        )
        for end in ("finished", "failed", "cancelled", "refused"):
            drawings.add_metric([end], getattr(stats, end))
        yield drawings
        yield CounterMetricFamily("unmask_deaths", "Workers that died.", stats.deaths)
        yield from self._of_models(stats)
        memory = GaugeMetricFamily(
            "unmask_device_memory_bytes", "Memory that torch holds on a GPU.", labels=["device"]
        )
        for device, size in reserved_bytes().items():
            memory.add_metric([device], size)
        yield memory

    def _of_models(self, stats: Stats) -> Iterator[Metric]:
        weights = GaugeMetricFamily(
            "unmask_model_bytes", "Weights of a loaded model, all workers' together.", labels=MODEL
        )
        loads = CounterMetricFamily(
            "unmask_model_loads",
            "Times that a model was loaded; more than once if it made room in between.",
            labels=MODEL,
        )
        for name, count in stats.loads.items():
            weights.add_metric([name], stats.models.get(name, 0))
            loads.add_metric([name], count)
        stages = HistogramMetricFamily(
            "unmask_stage_seconds",
            "What a request waits (queue), and an image takes: encode its prompt, all steps, and "
            "decode its tokens.",
            labels=["stage", "model"],
        )
        for (stage, model), spread in stats.stages.items():
            stages.add_metric([stage, model], _buckets(spread), spread.total)
        step = HistogramMetricFamily(
            "unmask_step_seconds", "One step of all rows of a batch.", labels=MODEL
        )
        rows = HistogramMetricFamily("unmask_step_rows", "Rows of a step.", labels=MODEL)
        for family, spreads in ((step, stats.step_seconds), (rows, stats.step_rows)):
            for model, spread in spreads.items():
                family.add_metric([model], _buckets(spread), spread.total)
        yield from (weights, loads, stages, step, rows)


MODEL = ["model"]


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    """Counts as Prometheus has them: each with all that are below its bound."""
    buckets, count = [], 0
    for bound, more in zip((*spread.bounds, float("inf")), spread.counts, strict=True):
        count += more
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(count)))
    return buckets
