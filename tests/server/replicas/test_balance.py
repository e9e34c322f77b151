from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from unmask.errors import ConfigError
from unmask.server.replicas.balance import (
    ALIKE_SECONDS,
    MODELS,
    QUEUED_SECONDS,
    REQUEST_SECONDS,
    WORKING,
    ByQueuedSeconds,
    Sent,
    by_work,
)


@dataclass(frozen=True)
class Replica:
    name: str
    routing_stats: dict[str, Any] = field(default_factory=dict)


def test_those_with_the_least_work_that_waits_come_first() -> None:
    idle, new = Replica("idle", {QUEUED_SECONDS: 0.0}), Replica("new")
    alike = Replica("alike", {QUEUED_SECONDS: ALIKE_SECONDS / 2})
    busy = Replica("busy", {QUEUED_SECONDS: 3.0})
    busier = Replica("busier", {QUEUED_SECONDS: 30.0})
    groups = by_work([busier, idle, busy, alike, new])
    assert groups == [[idle, alike, new], [busy], [busier]]
    assert by_work(list[Replica]()) == []


def test_a_model_that_must_be_loaded_first_counts_as_work() -> None:
    idle = Replica("idle", {QUEUED_SECONDS: 0.0, MODELS: ["small"]})
    busy = Replica("busy", {QUEUED_SECONDS: 1.0, MODELS: ["small", "large"]})
    late = Replica("late", {QUEUED_SECONDS: 30.0, MODELS: ["large"]})
    assert by_work([idle, busy, late], "large") == [[busy], [idle], [late]]
    assert by_work([idle, busy, late], "small") == [[idle], [busy], [late]]
    assert by_work([idle, busy, late]) == [[idle], [busy], [late]]


def test_what_was_sent_since_counts_as_work_until_it_is_answered() -> None:
    told = [{QUEUED_SECONDS: 0.0, REQUEST_SECONDS: 0.4}, {QUEUED_SECONDS: 1.0}]
    near, far = (Replica(name, each) for name, each in zip(("near", "far"), told, strict=True))
    sent = Sent()

    def first() -> Replica:
        return by_work([near, far], "", lambda each: sent.of(each.name, each.routing_stats))[0][0]

    for _ in range(2):
        assert first() is near
        sent.add("near", near.routing_stats, 1)
    sent.add("near", near.routing_stats, 1)
    assert first() is far
    sent.add("near", near.routing_stats, -1)
    assert first() is near
    sent.add("near", near.routing_stats, 5)
    assert first() is far
    assert sent.of("near", dict(near.routing_stats)) == 0  # it has told of itself anew


def _context(*told: tuple[float, float], target: int = 1) -> SimpleNamespace:
    names = [f"replica-{index}" for index in range(len(told))]
    metrics = {
        metric: dict(zip(names, values, strict=True))
        for metric, values in zip((QUEUED_SECONDS, WORKING), zip(*told, strict=True), strict=False)
    }
    return SimpleNamespace(target_num_replicas=target, aggregated_metrics=metrics)


def test_there_are_as_many_replicas_as_what_waits_fills() -> None:
    policy = ByQueuedSeconds(2.0, 0.8)
    assert policy(_context((9.0, 1.0), (1.0, 1.0))) == (5.0, {})
    assert policy(_context((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))) == (0.0, {})


def test_replicas_that_are_at_work_stay_though_little_waits() -> None:
    policy = ByQueuedSeconds(2.0, 0.8)
    assert policy(_context((0.1, 0.8), (0.1, 0.8), (0.1, 0.8)))[0] == pytest.approx(3.0)
    assert policy(_context((0.1, 0.4), (0.1, 0.4), (0.1, 0.4)))[0] == pytest.approx(1.5)


def test_where_nothing_was_told_yet_nothing_changes() -> None:
    assert ByQueuedSeconds()(_context(target=3)) == (3, {})


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_what_waits_must_be_some_time(seconds: float) -> None:
    with pytest.raises(ConfigError, match=f"seconds {seconds}"):
        ByQueuedSeconds(seconds)


@pytest.mark.parametrize("busy", [0.0, 1.1, float("nan")])
def test_the_time_at_work_is_a_share(busy: float) -> None:
    with pytest.raises(ConfigError, match=f"busy {busy}"):
        ByQueuedSeconds(2.0, busy)
