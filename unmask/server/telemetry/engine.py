"""An engine that counts what is drawn, for whom and by which model, whatever route asked for it."""

import time
from typing import Unpack

from unmask.pipeline import Generated
from unmask.server.engine.costs import WeighedRequest
from unmask.server.engine.face import EngineAround, EngineFace, Wishes
from unmask.server.telemetry.accounts import account
from unmask.server.telemetry.metrics import Metrics


class CountedEngine(EngineAround):
    """Puts what it hears into the metrics, and into the account of the request."""

    def __init__(self, engine: EngineFace, metrics: Metrics) -> None:
        super().__init__(engine)
        self._metrics = metrics

    async def submit(self, weighed: WeighedRequest, **wishes: Unpack[Wishes]) -> Generated:
        """As the engine has it."""
        began, of_request = time.perf_counter(), account()
        of_request.model = weighed.model.pipeline.info.name
        generated = await super().submit(weighed, **wishes)
        of_request.drawn_at = time.perf_counter()
        images, tokens = len(generated.drawn), weighed.cost.drawn_tokens
        of_request.images += images
        of_request.tokens += tokens
        of_request.draw_seconds = generated.seconds
        of_request.queue_seconds = max(of_request.drawn_at - began - generated.seconds, 0.0)
        key = wishes.get("key", "")
        self._metrics.drew(of_request.model, key, images, tokens)
        return generated
