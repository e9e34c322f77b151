from dataclasses import dataclass

from unmask.server.replicas.router import ALIKE_SECONDS, QUEUED_SECONDS, by_queued_work


@dataclass(frozen=True)
class Replica:
    name: str
    routing_stats: dict[str, float]


def test_those_with_the_least_work_that_waits_come_first() -> None:
    idle, new = Replica("idle", {QUEUED_SECONDS: 0.0}), Replica("new", {})
    alike = Replica("alike", {QUEUED_SECONDS: ALIKE_SECONDS / 2})
    busy = Replica("busy", {QUEUED_SECONDS: 3.0})
    busier = Replica("busier", {QUEUED_SECONDS: 30.0})
    groups = by_queued_work([busier, idle, busy, alike, new])
    assert groups == [[idle, alike, new], [busy], [busier]]
    assert by_queued_work(list[Replica]()) == []
