"""The application: routes, errors and the edge around one engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import torch
from fastapi import FastAPI

from unmask import __version__
from unmask.pipeline import Pipeline
from unmask.server.engine.engine import Engine, EngineOptions
from unmask.server.http.edge import Edge
from unmask.server.http.errors import add_error_handlers
from unmask.server.http.routes import make_router
from unmask.settings import Settings, load_settings


def create_app(settings: Settings | None = None, engine: Engine | None = None) -> FastAPI:
    """The ASGI app; it starts the engine when the server starts and stops it at the end.

    Without arguments it reads the environment, so ``uvicorn --factory`` can call it.
    """
    settings = settings or load_settings()
    load = partial(Pipeline.load, precision=settings.precision)
    engine = engine or Engine(EngineOptions.of(settings), load)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        engine.start()
        yield
        await engine.stop()

    app = FastAPI(
        title="Unmask",
        version=__version__,
        description="Images from masked generative transformers, in the shape of OpenAI's API.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect is an answer outside the envelope
    )
    app.include_router(make_router(engine, settings))
    add_error_handlers(app)
    app.add_middleware(
        Edge, max_body_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes
    )
    return app
