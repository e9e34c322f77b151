"""What the routes ask of an engine: so small that a replica elsewhere can be just that."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict, Unpack

from unmask.pipeline import DrawRequest, Generated
from unmask.server.engine.costs import OpenedModel, WeighedRequest
from unmask.server.engine.status import ModelStatus
from unmask.server.engine.tickets import Event, Priority


class Wishes(TypedDict, total=False):
    """How a request is to be drawn: see ``Engine.submit``."""

    key: str
    priority: Priority
    timeout: float | None
    previews: int
    watched: bool
    on_event: Callable[[Event], None] | None


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

    async def submit(self, weighed: WeighedRequest, **wishes: Unpack[Wishes]) -> Generated:
        """The images, once they are drawn. QueueFullError, TimeoutError, or why they cannot be."""
        ...


class EngineAround:
    """An engine around another, which it asks for all that its heirs do not change."""

    def __init__(self, engine: EngineFace) -> None:
        self._engine = engine

    @property
    def models(self) -> Sequence[ModelStatus]:
        """As the engine has it."""
        return self._engine.models

    def ready(self) -> None:
        """As the engine has it."""
        self._engine.ready()

    async def open(self, name: str | None = None) -> OpenedModel:
        """As the engine has it."""
        return await self._engine.open(name)

    async def weigh(self, request: DrawRequest, model: OpenedModel) -> WeighedRequest:
        """As the engine has it."""
        return await self._engine.weigh(request, model)

    async def submit(self, weighed: WeighedRequest, **wishes: Unpack[Wishes]) -> Generated:
        """As the engine has it."""
        return await self._engine.submit(weighed, **wishes)
