"""Replicas: the app with its engine in processes of their own, and how they are started: on this
machine, or by Ray from a file.
"""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from types import FrameType
from typing import Any

from starlette.types import ASGIApp, Message, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from unmask.cores import threads_for
from unmask.errors import ConfigError, UnavailableError
from unmask.server.engine.engine import EngineState
from unmask.server.http.app import create_app, make_engine, make_ring
from unmask.server.replicas.front import Front
from unmask.server.replicas.router import QUEUED_SECONDS
from unmask.server.telemetry.log import configure_log
from unmask.settings import Settings, load_settings

APP = "unmask"
DRAWERS = "drawers"
MOST_REQUESTS = 1024  # of a replica at a time: its engine refuses long before
STATS_SECONDS = 0.2
# Of Ray's count of cores: the threads of a replica are those of the settings.
DRAWER_CORES, FRONT_CORES = 0.5, 0.1
STOPPING_SECONDS = 1.0  # that the app has to notice that nobody waits any more


class Drawer:
    """What is started once for each device. Its methods but ``answer`` are those that Ray calls."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """``values`` are those of the settings, which were checked where they were read."""
        settings = Settings.model_construct(**values)
        configure_log(settings)
        self._engine = make_engine(settings)
        app = create_app(settings, self._engine)
        self._app: ASGIApp = app
        if settings.trusted_proxies:
            self._app = ProxyHeadersMiddleware(app, settings.trusted_proxies)  # type: ignore[arg-type, assignment]
        self._lifespan = app.router.lifespan_context(app)
        self._starting = asyncio.Lock()
        self._started = False

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """The messages of the app's answer to a request, as it sends them. Whoever asks may leave
        at any time: the app then hears that its client is gone."""
        await self.check_health()
        told: asyncio.Queue[Message | None] = asyncio.Queue()
        gone, read = asyncio.Event(), False

        async def receive() -> Message:
            nonlocal read
            if not read:
                read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        task = asyncio.ensure_future(self._app(scope, receive, told.put))
        task.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (message := await told.get()) is not None:
                yield message
        finally:
            gone.set()
            if not task.done():
                await asyncio.wait({task}, timeout=STOPPING_SECONDS)
                task.cancel()

    async def check_health(self) -> None:
        """Start what is not started; an error if no worker is left, so that Ray starts another."""
        async with self._starting:
            if not self._started:
                await self._lifespan.__aenter__()
                self._started = True
        if self._engine.state is EngineState.DEAD:
            raise UnavailableError("no worker is left")

    def record_routing_stats(self) -> dict[str, float]:
        """What the router chooses by."""
        return {QUEUED_SECONDS: self._engine.stats().queued_seconds}

    async def stop(self) -> None:
        """Stop, once nobody is answered any more."""
        if self._started:
            self._started = False
            await self._lifespan.__aexit__(None, None, None)


def build(options: Mapping[str, Any] | None = None) -> Any:
    """The application for Ray Serve: what ``import_path`` of its file names. ``options`` are
    settings over those of the environment. ConfigError."""
    return application(load_settings(**(options or {})))


def application(settings: Settings) -> Any:
    """The application for Ray Serve, with a replica for each device. ConfigError if Ray is not
    there, or the server must not run without keys."""
    try:
        from ray import serve
        from ray.exceptions import RayActorError
        from ray.serve.config import RequestRouterConfig
    except ImportError:
        raise ConfigError("replicas: install the extra: pip install 'unmask[ray]'") from None

    class Replica(Drawer):
        async def __del__(self) -> None:  # Ray awaits it when the replica has no more to answer
            await self.stop()

    make_ring(settings)
    devices = [settings.device, *settings.more_devices]
    is_gpu = settings.device.startswith("cuda")  # Ray shows each replica one of them, as the first
    values = {**dict(settings), "device": "cuda" if is_gpu else settings.device, "more_devices": []}
    drawers = serve.deployment(Replica).options(
        name=DRAWERS,
        num_replicas=len(devices),
        ray_actor_options={"num_cpus": DRAWER_CORES, "num_gpus": int(is_gpu)},
        max_ongoing_requests=MOST_REQUESTS,
        graceful_shutdown_timeout_s=settings.shutdown_timeout_seconds,
        request_router_config=RequestRouterConfig(
            request_router_class="unmask.server.replicas.router:LeastQueued",
            request_routing_stats_period_s=STATS_SECONDS,
        ),
    )

    def make_front() -> Front:
        handle = serve.get_deployment_handle(DRAWERS, app_name=APP).options(stream=True)
        return Front(handle.answer.remote, RayActorError, settings.max_upload_bytes)

    front = serve.deployment(serve.ingress(make_front)()).options(
        name="front",
        ray_actor_options={"num_cpus": FRONT_CORES},
        max_ongoing_requests=MOST_REQUESTS,
    )
    return front.bind(drawers.bind(values))


def serve_replicas(settings: Settings) -> int:
    """Serve on this machine until a signal comes, and return which. ConfigError."""
    if settings.unix_socket is not None:
        raise ConfigError(f"UNMASK_UNIX_SOCKET {settings.unix_socket}: replicas listen at a port")
    if settings.port == 0:
        raise ConfigError("UNMASK_PORT 0: name the port at which replicas listen")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    threads = threads_for(settings.cpu_workers, settings.threads).count
    app = application(settings.model_copy(update={"threads": threads}))
    import ray
    from ray import serve

    heard: list[int] = []
    told = threading.Event()

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)
        told.set()

    cores = len([settings.device, *settings.more_devices]) + 1
    ray.init(include_dashboard=False, num_cpus=cores)
    try:
        serve.start(http_options={"host": settings.host, "port": settings.port})
        serve.run(app, name=APP, route_prefix="/")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, hear)
        told.wait()
    finally:
        serve.shutdown()
        ray.shutdown()
    return heard[0]
