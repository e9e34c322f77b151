"""The application: routes, errors and the edge around one engine."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from unmask import __version__
from unmask.cores import threads_for
from unmask.server.a1111.routes import make_a1111_router
from unmask.server.engine.engine import Engine, EngineOptions, EngineState
from unmask.server.engine.face import EngineFace
from unmask.server.engine.sources import StoredModels
from unmask.server.http.docs import make_docs_router, with_keys
from unmask.server.http.door import Door
from unmask.server.http.edge import Edge, Uploads
from unmask.server.http.errors import add_error_handlers, fault_of
from unmask.server.http.examples import with_examples
from unmask.server.http.job_routes import make_job_router, make_webhook_router
from unmask.server.http.kinds import make_kinds
from unmask.server.http.methods import Methods, RootPath
from unmask.server.http.page import make_page_router
from unmask.server.http.routes import make_router
from unmask.server.http.shared import Shared
from unmask.server.http.video_routes import make_video_router
from unmask.server.jobs.jobs import Jobs
from unmask.server.keys.limits import Limits
from unmask.server.moderation import ModeratedEngine, Moderation, read_moderation
from unmask.server.telemetry.engine import CountedEngine
from unmask.server.telemetry.metrics import EngineView, Metrics
from unmask.server.telemetry.routes import make_metrics_router
from unmask.server.telemetry.traces import is_traced, make_provider, trace
from unmask.server.telemetry.watch import NoteRoute, Watch
from unmask.settings import Settings, load_settings

log = logging.getLogger(__name__)


def make_engine(settings: Settings) -> Engine:
    """The engine that the settings ask for."""
    return Engine(EngineOptions.of(settings), StoredModels(settings.precision))


def _use_threads(settings: Settings) -> None:
    threads = threads_for(settings.cpu_workers, settings.threads)
    torch.set_num_threads(threads.count)
    log.info("%d threads a worker: %s", threads.count, threads.reason)


def create_app(
    settings: Settings | None = None,
    engine: Engine | None = None,
    uploads: Uploads | None = None,
    moderation: Moderation | None = None,
) -> FastAPI:
    """The ASGI app; it starts the engine when the server starts and stops it at the end.

    Without arguments it reads the environment, so ``uvicorn --factory`` can call it; but only
    ``unmask serve`` bounds connections, and tells those who wait that it stops. ``moderation``
    takes the place of the one in the settings. ConfigError if it must not run without keys.
    """
    settings = settings or load_settings()
    _use_threads(settings)
    engine = engine or make_engine(settings)
    uploads = uploads or Uploads(settings.read_timeout_seconds)
    shared = Shared(settings)
    if moderation is None and settings.moderation is not None:
        moderation = read_moderation(settings.moderation)
    options = engine.options
    metrics = Metrics(
        EngineView(engine.stats, options.max_queue, options.max_rows),
        lambda: [key.name for key in shared.ring.keys],
    )
    face: EngineFace = CountedEngine(engine, metrics)
    if moderation is not None:
        face = ModeratedEngine(face, moderation)

    provider = make_provider() if is_traced() else None

    kinds = make_kinds(face, settings)
    jobs = Jobs(
        settings,
        kinds,
        shared.state,
        is_ready=lambda: engine.state is EngineState.READY,
        is_stopping=lambda: engine.state is EngineState.STOPPING,
        tell=fault_of,
        hear_counts=shared.places.count_jobs,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        shared.start()
        await jobs.start()
        yield
        await engine.stop()
        await jobs.stop()  # after the engine, which has failed what it had: they give it back
        await shared.stop()
        if provider is not None:
            await run_in_threadpool(provider.shutdown)  # which sends what is left

    app = FastAPI(
        title="Unmask",
        version=__version__,
        description="Images and videos from masked generative transformers, in the shape of "
        "OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page fetches its script from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect is an answer outside the envelope
    )
    app.include_router(make_router(face, settings, jobs))
    app.include_router(make_video_router(face, settings, jobs))
    app.include_router(make_page_router())
    app.include_router(make_job_router(jobs, kinds))
    app.include_router(make_webhook_router(jobs))
    app.include_router(make_docs_router(app.title))
    app.include_router(make_a1111_router(face, settings))
    app.include_router(make_metrics_router(metrics))
    document = with_keys(with_examples(app.openapi), lambda: shared.ring.needed)
    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way
    add_error_handlers(app)
    _add_edge(app, settings, engine, uploads, shared)
    app.add_middleware(Watch, metrics=metrics)
    if provider is not None:
        trace(app, provider)
    return app


def _add_edge(
    app: FastAPI, settings: Settings, engine: Engine, uploads: Uploads, shared: Shared
) -> None:
    """What stands before the routes."""
    # The last that is added is the outermost: what the door refuses has a request id too.
    app.add_middleware(NoteRoute)
    app.add_middleware(Methods, routes=app.routes)
    app.add_middleware(
        Door,
        ring=shared.ring,
        limiter=shared.limiter,
        defaults=Limits.of(settings),
        insecure=settings.insecure,
    )
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)
    app.add_middleware(
        Edge,
        uploads=uploads,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        is_stopping=lambda: engine.state is EngineState.STOPPING,
    )
    if settings.cors_origins:  # around the edge, so that a page can read its refusals too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
