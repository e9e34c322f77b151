"""What the routes ask of an engine: so small that a replica elsewhere can be just that."""

from collections.abc import Callable, Sequence
from typing import Protocol

from unmask.pipeline import DrawRequest, Generated
from unmask.server.engine.costs import OpenedModel, WeighedRequest
from unmask.server.engine.status import ModelStatus
from unmask.server.engine.tickets import Event, Priority


class EngineFace(Protocol):
    """See ``Engine``, which is one."""

    @property
    def models(self) -> Sequence[ModelStatus]:
        """The models there are, loaded or not."""
        ...

    def ready(self) -> None:
        """UnavailableError unless requests would be drawn now."""
        ...

    async def open(self, name: str | None = None) -> OpenedModel:
        """A model (the default one if None), loaded now if it is not. NotFoundError,
        UnavailableError."""
        ...

    async def weigh(self, request: DrawRequest, model: OpenedModel) -> WeighedRequest:
        """A request made ready to be submitted. QueueFullError, UnavailableError."""
        ...

    async def submit(
        self,
        weighed: WeighedRequest,
        *,
        key: str = "",
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        previews: int = 0,
        watched: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> Generated:
        """The images, once they are drawn. QueueFullError, TimeoutError, or why they cannot be."""
        ...
