"""The route that Prometheus asks."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from unmask.server.http.errors import ERRORS
from unmask.server.telemetry.metrics import CONTENT_TYPE, Metrics


def make_metrics_router(metrics: Metrics) -> APIRouter:
    """GET /metrics, for keys of scope ``metrics``, which the door asks for."""
    router = APIRouter(responses=ERRORS)

    @router.get("/metrics", tags=["probes"], response_class=PlainTextResponse)
    async def show() -> Any:
        """What the server did and does, as Prometheus reads it."""
        # In the event loop, whose own the engine is; it takes about as long as a small request.
        return PlainTextResponse(metrics.text(), headers={"content-type": CONTENT_TYPE})

    return router
