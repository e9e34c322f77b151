"""By the work that waits: which replica a request goes to, and how many there should be."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from unmask.errors import ConfigError

QUEUED_SECONDS, REQUEST_SECONDS = "queued_seconds", "request_seconds"
MODELS, WORKING = "models", "working"
ALIKE_SECONDS = 0.05  # of work that waits: it is reckoned no better
LOADING_SECONDS = 2.0  # that a model counts which a replica has not loaded


class Measured(Protocol):
    """A replica, with what it told of itself last."""

    @property
    def routing_stats(self) -> Mapping[str, Any]:
        """Empty until it has told something."""


Replica = TypeVar("Replica", bound=Measured)


class Sent:
    """How many requests each replica was sent, and has not answered, since it told of itself.
    Without them all that come within some tenths of a second would go to the same one."""

    def __init__(self) -> None:
        self._since: dict[Hashable, tuple[Mapping[str, Any], int]] = {}

    def of(self, name: Hashable, told: Mapping[str, Any]) -> int:
        """Those of a replica that told this last."""
        since = self._since.get(name)
        return since[1] if since is not None and since[0] is told else 0

    def add(self, name: Hashable, told: Mapping[str, Any], requests: int) -> None:
        """So many more, or fewer."""
        self._since[name] = (told, max(0, self.of(name, told) + requests))


def by_work(
    replicas: Iterable[Replica], model: str = "", sent: Callable[[Replica], int] = lambda _: 0
) -> list[list[Replica]]:
    """Groups of replicas with about as much work before a request for a model (the default one if
    none is named), those with least first. Within a group Ray takes the one with the fewest
    requests at this moment. ``sent`` tells how many requests came after what a replica told."""
    groups: dict[int, list[Replica]] = {}
    for replica in replicas:
        told = replica.routing_stats
        seconds = float(told.get(QUEUED_SECONDS, 0.0))
        seconds += sent(replica) * float(told.get(REQUEST_SECONDS, 0.0))
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
        def initialize_state(self) -> None:
            self._sent = Sent()

        async def choose_replicas(
            self, candidate_replicas: list[Any], pending_request: Any = None
        ) -> list[list[Any]]:
            asked = pending_request and pending_request.metadata.multiplexed_model_id
            return by_work(
                candidate_replicas,
                asked or "",
                lambda replica: self._sent.of(replica.replica_id, replica.routing_stats),
            )

        def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
            self._count(replica_id, 1)

        def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
            self._count(replica_id, -1)

        def _count(self, replica_id: Any, requests: int) -> None:
            replica = self.curr_replicas.get(replica_id)
            if replica is not None:
                self._sent.add(replica_id, replica.routing_stats, requests)

    return LeastWork
