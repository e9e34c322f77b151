"""Which replica a request goes to: one with the least work that waits."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

QUEUED_SECONDS = "queued_seconds"
ALIKE_SECONDS = 0.05  # of work that waits: figures are some tenths of a second old


class Measured(Protocol):
    """A replica, with what it told of itself last."""

    @property
    def routing_stats(self) -> Mapping[str, Any]:
        """Empty until it has told something."""


Replica = TypeVar("Replica", bound=Measured)


def by_queued_work(replicas: Iterable[Replica]) -> list[list[Replica]]:
    """Groups of replicas with about as much work that waits, those with least first. Within a group
    Ray takes the one with the fewest requests at this moment."""
    groups: dict[int, list[Replica]] = {}
    for replica in replicas:
        queued = float(replica.routing_stats.get(QUEUED_SECONDS, 0.0))
        groups.setdefault(int(queued / ALIKE_SECONDS), []).append(replica)
    return [groups[number] for number in sorted(groups)]


def __getattr__(name: str) -> Any:
    """``LeastQueued``, the class that Ray looks for by its name; without Ray nobody asks for it."""
    if name != "LeastQueued":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ray.serve.request_router import FIFOMixin, RequestRouter

    class LeastQueued(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray tells no types
        async def choose_replicas(
            self, candidate_replicas: list[Any], pending_request: Any = None
        ) -> list[list[Any]]:
            return by_queued_work(candidate_replicas)

    return LeastQueued
