from dataclasses import dataclass, field
from typing import Any

from unmask.server.replicas.router import ALIKE_SECONDS, MODELS, QUEUED_SECONDS, by_work


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
