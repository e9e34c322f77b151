"""How many replicas there should be: as many as get through the work that waits soon enough."""

from collections.abc import Iterable
from typing import Any

from unmask.errors import ConfigError
from unmask.server.replicas.router import QUEUED_SECONDS


class ByQueuedSeconds:
    """A policy of Ray's autoscaling, which its file names with its options. Bounds, delays and the
    span over which figures are averaged are Ray's own."""

    def __init__(self, seconds: float = 2.0) -> None:
        """``seconds`` of work are to wait at each replica. ConfigError."""
        if not 0 < seconds < float("inf"):
            raise ConfigError(f"seconds {seconds}: more than 0")
        self.seconds = seconds

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """The number of replicas that Ray's context asks for, and nothing to be remembered."""
        if not context.running_replicas:
            return context.target_num_replicas, {}
        queued = (context.aggregated_metrics or {}).get(QUEUED_SECONDS, {})
        return self.wanted(queued.values()), {}

    def wanted(self, queued_seconds: Iterable[float]) -> float:
        """So many replicas for what waits at each of those that there are."""
        return sum(queued_seconds) / self.seconds
