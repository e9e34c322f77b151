from types import SimpleNamespace

import pytest

from unmask.errors import ConfigError
from unmask.server.replicas.router import QUEUED_SECONDS
from unmask.server.replicas.scaling import ByQueuedSeconds


def _context(*queued: float, target: int = 1) -> SimpleNamespace:
    replicas = [f"replica-{index}" for index in range(len(queued))]
    metrics = {QUEUED_SECONDS: dict(zip(replicas, queued, strict=True))}
    return SimpleNamespace(
        running_replicas=replicas, target_num_replicas=target, aggregated_metrics=metrics
    )


def test_there_are_as_many_replicas_as_what_waits_fills() -> None:
    policy = ByQueuedSeconds(2.0)
    assert policy(_context(2.0, 2.0)) == (2.0, {})
    assert policy(_context(9.0, 1.0)) == (5.0, {})
    assert policy(_context(0.5, 0.5, 1.0)) == (1.0, {})


def test_what_has_told_nothing_yet_changes_nothing() -> None:
    assert ByQueuedSeconds()(_context(target=3)) == (3, {})


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_what_waits_must_be_some_time(seconds: float) -> None:
    with pytest.raises(ConfigError, match=f"seconds {seconds}"):
        ByQueuedSeconds(seconds)
