"""By the work that waits: which replica a request goes to, and how many there should be."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from unmask.errors import ConfigError

QUEUED_SECONDS, MODELS, WORKING = "queued_seconds", "models", "working"
ALIKE_SECONDS = 0.05  # of work that waits: figures are some tenths of a second old
LOADING_SECONDS = 2.0  # that a model counts which a replica has not loaded


class Measured(Protocol):
    """A replica, with what it told of itself last."""

    @property
    def routing_stats(self) -> Mapping[str, Any]:
        """Empty until it has told something."""


Replica = TypeVar("Replica", bound=Measured)


def by_work(replicas: Iterable[Replica], model: str = "") -> list[list[Replica]]:
    """Groups of replicas with about as much work before a request for a model (the default one if
    none is named), those with least first. Within a group Ray takes the one with the fewest
    requests at this moment."""
    groups: dict[int, list[Replica]] = {}
    for replica in replicas:
        told = replica.routing_stats
        seconds = float(told.get(QUEUED_SECONDS, 0.0))
        if model and model not in told.get(MODELS, ()):
            seconds += LOADING_SECONDS
        groups.setdefault(int(seconds / ALIKE_SECONDS), []).append(replica)
    return [groups[number] for number in sorted(groups)]


class ByQueuedSeconds:
    """A policy of Ray's autoscaling, which its file names with its options. Bounds, delays and the
    span over which figures are averaged are Ray's own.

    What waits tells when there are too few replicas. It is gone as soon as there are enough, so how
    many may go is told by the share of time in which they have anything to do."""

    def __init__(self, seconds: float = 2.0, busy: float = 0.8) -> None:
        """``seconds`` of work are to wait at each replica at most, and each is to be at work for
        this share of its time. ConfigError."""
        if not 0 < seconds < float("inf"):
            raise ConfigError(f"seconds {seconds}: more than 0")
        if not 0 < busy <= 1:
            raise ConfigError(f"busy {busy}: more than 0, at most 1")
        self.seconds, self.busy = seconds, busy

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """The number of replicas that Ray's context asks for, and nothing to be remembered."""
        told = context.aggregated_metrics or {}
        if not told.get(QUEUED_SECONDS):
            return context.target_num_replicas, {}
        queued, working = (told[name].values() for name in (QUEUED_SECONDS, WORKING))
        return self.wanted(queued, working), {}

    def wanted(self, queued_seconds: Iterable[float], working: Iterable[float]) -> float:
        """So many replicas for what waits at each of those that there are, and for the share of
        time in which each had work."""
        return max(sum(queued_seconds) / self.seconds, sum(working) / self.busy)


def told_for_scaling(queued_seconds: float, at_work: bool) -> dict[str, float]:
    """What a replica tells ``ByQueuedSeconds``, which sees the mean of it over a while."""
    return {QUEUED_SECONDS: queued_seconds, WORKING: float(at_work)}


def __getattr__(name: str) -> Any:
    """``LeastWork``, the class that Ray looks for by its name; without Ray nobody asks for it."""
    if name != "LeastWork":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ray.serve.request_router import FIFOMixin, RequestRouter

    class LeastWork(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray tells no types
        async def choose_replicas(
            self, candidate_replicas: list[Any], pending_request: Any = None
        ) -> list[list[Any]]:
            asked = pending_request and pending_request.metadata.multiplexed_model_id
            return by_work(candidate_replicas, asked or "")

    return LeastWork
