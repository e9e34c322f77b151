"""An engine that counts what is drawn, for whom and by which model, whatever route asked for it."""

import time
from collections.abc import Callable, Sequence

from unmask.pipeline import DrawRequest, Generated
from unmask.server.engine.costs import OpenedModel, WeighedRequest
from unmask.server.engine.face import EngineFace
from unmask.server.engine.status import ModelStatus
from unmask.server.engine.tickets import Event, Priority
from unmask.server.telemetry.accounts import account
from unmask.server.telemetry.metrics import Metrics


class CountedEngine:
    """Puts what it hears into the metrics, and into the account of the request."""

    def __init__(self, engine: EngineFace, metrics: Metrics) -> None:
        self._engine, self._metrics = engine, metrics

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
        """As the engine has it."""
        began, of_request = time.perf_counter(), account()
        of_request.model = weighed.model.pipeline.info.name
        generated = await self._engine.submit(
            weighed,
            key=key,
            priority=priority,
            timeout=timeout,
            previews=previews,
            watched=watched,
            on_event=on_event,
        )
        of_request.drawn_at = time.perf_counter()
        of_request.images, of_request.tokens = len(generated.images), weighed.cost.drawn_tokens
        of_request.draw_seconds = generated.seconds
        of_request.queue_seconds = max(of_request.drawn_at - began - generated.seconds, 0.0)
        self._metrics.drew(of_request.model, key, of_request.images, of_request.tokens)
        return generated
