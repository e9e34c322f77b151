"""Which replica a request goes to: one with the least work before it."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

QUEUED_SECONDS, MODELS = "queued_seconds", "models"
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
