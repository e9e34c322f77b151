"""What the routes ask of an engine: so small that a replica elsewhere can be just that."""

from collections.abc import Callable, Sequence
from typing import Protocol

from unmask.pipeline import DrawRequest, Generated
from unmask.server.engine.costs import OpenedModel, WeighedRequest
from unmask.server.engine.models import ModelStatus
from unmask.server.engine.tickets import Event, Priority


class EngineFace(Protocol):
    """See ``Engine``, which is one."""

    @property
    def models(self) -> Sequence[ModelStatus]: ...

    def ready(self) -> None: ...

    async def open(self, name: str | None = None) -> OpenedModel: ...

    async def weigh(self, request: DrawRequest, model: OpenedModel) -> WeighedRequest: ...

    async def submit(
        self,
        weighed: WeighedRequest,
        *,
        key: str = "",
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        previews: int = 0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Generated: ...
