"""Replicas: the app with its engine in processes of their own, and how they are started: on this
machine, or by Ray from a file.
"""

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from types import FrameType
from typing import Any

import torch
from starlette.types import ASGIApp, Message, Scope
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from unmask.cores import threads_for
from unmask.errors import ConfigError, UnavailableError
from unmask.server.engine.engine import EngineState
from unmask.server.http.app import create_app, make_engine
from unmask.server.http.shared import check_shared
from unmask.server.replicas.balance import MODELS, QUEUED_SECONDS, REQUEST_SECONDS, told_for_scaling
from unmask.server.replicas.front import Front, Told
from unmask.server.telemetry.log import configure_log
from unmask.settings import Settings, load_settings

APP = "unmask"
DRAWERS = "drawers"
MOST_REQUESTS = 1024  # of a replica at a time: its engine refuses long before
STATS_SECONDS = 0.2
# Of Ray's count of cores: the threads of a replica are those of the settings.
DRAWER_CORES, FRONT_CORES = 0.5, 0.1
TELLING_SECONDS = 5.0  # that all replicas have to tell their metrics
STOPPING_SECONDS = 1.0  # that the app has to notice that nobody waits any more
QUIET = {"enable_access_log": False}  # of Ray: the app has its own
MARGIN_SECONDS = 10.0  # after the time in which a replica itself gives up a request
STORE_BYTES = 1 << 28  # of Ray's memory for bodies and answers on their way


class Drawer:
    """What is started once for each device. Its methods but ``answer`` are those that Ray calls."""

    def __init__(self, values: Mapping[str, Any], name: str = "") -> None:
        """``values`` are those of the settings, which were checked where they were read."""
        settings = Settings.model_construct(**values)
        configure_log(settings)
        self._name = name
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
        await self._start()
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

    async def tell(self, scope: Scope) -> Told:
        """The whole answer to a request without a body."""
        start, *parts = [message async for message in self.answer(scope, b"")]
        body = b"".join(part.get("body", b"") for part in parts)
        return Told(self._name, start["status"], body)

    async def check_health(self) -> None:
        """Return when requests may come; an error if no worker is left, so that Ray starts
        another replica."""
        await self._start()
        if self._engine.state is EngineState.DEAD:
            raise UnavailableError("no worker is left")

    async def _start(self) -> None:
        """Start what is not started, and return when the default model is there or cannot be: until
        then Ray sends nobody here."""
        async with self._starting:
            if not self._started:
                await self._lifespan.__aenter__()
                self._started = True
            while self._engine.state is EngineState.STARTING:
                await asyncio.sleep(0.02)

    def record_routing_stats(self) -> dict[str, Any]:
        """What the router chooses by."""
        stats = self._engine.stats()
        return {
            QUEUED_SECONDS: stats.queued_seconds,
            REQUEST_SECONDS: stats.draw.p50,
            MODELS: list(stats.models),
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Ray scales by, where its file says so."""
        stats = self._engine.stats()
        return told_for_scaling(stats.queued_seconds, stats.queued + stats.running > 0)

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
    there, or if a server of these settings could not start."""
    try:
        from ray import serve
        from ray.exceptions import RayActorError
        from ray.serve.config import RequestRouterConfig
        from ray.serve.exceptions import ReplicaUnavailableError
    except ImportError:
        raise ConfigError("replicas: install the extra: pip install 'unmask[ray]'") from None

    class Replica(Drawer):
        def __init__(self, values: Mapping[str, Any]) -> None:
            super().__init__(values, serve.get_replica_context().replica_id.unique_id)

        async def __del__(self) -> None:  # Ray awaits it when the replica has no more to answer
            await self.stop()

    check_shared(settings)
    devices = devices_of(settings)
    kind = devices[0].type
    values = {
        **dict(settings),
        "device": kind,  # Ray shows each replica one of them, as the first
        "more_devices": [],
        "limits": settings.limits or "database",
    }
    drawers = serve.deployment(Replica).options(
        name=DRAWERS,
        num_replicas=len(devices),
        ray_actor_options={"num_cpus": DRAWER_CORES, "num_gpus": int(kind == "cuda")},
        max_ongoing_requests=MOST_REQUESTS,
        logging_config=QUIET,
        graceful_shutdown_timeout_s=settings.shutdown_timeout_seconds,
        request_router_config=RequestRouterConfig(
            request_router_class="unmask.server.replicas.balance:LeastWork",
            request_routing_stats_period_s=STATS_SECONDS,
        ),
    )

    def make_front() -> Front:
        app = serve.get_replica_context().app_name
        whole = serve.get_deployment_handle(DRAWERS, app_name=app)
        handle = whole.options(stream=True)

        def ask(model: str, scope: Scope, body: bytes) -> AsyncIterator[Message]:
            asked: AsyncIterator[Message] = handle.options(
                multiplexed_model_id=model
            ).answer.remote(scope, body)
            return asked

        async def ask_all(scope: Scope) -> list[Told]:
            try:
                told = await whole.broadcast("tell", scope).results_async(
                    timeout_s=TELLING_SECONDS, return_exceptions=True
                )
            except TimeoutError:
                return []
            return [each for each in told if isinstance(each, Told)]

        return Front(
            ask,
            ask_all,
            (RayActorError, ReplicaUnavailableError),
            most_bytes=settings.max_upload_bytes,
            seconds=settings.request_timeout_seconds + MARGIN_SECONDS,
        )

    front = serve.deployment(serve.ingress(make_front)()).options(
        name="front",
        ray_actor_options={"num_cpus": FRONT_CORES},
        max_ongoing_requests=MOST_REQUESTS,
        logging_config=QUIET,
    )
    return front.bind(drawers.bind(values))


def devices_of(settings: Settings) -> list[torch.device]:
    """The device of each replica. ConfigError if they are of several kinds."""
    devices = [torch.device(name) for name in (settings.device, *settings.more_devices)]
    for device in devices:
        if device.type != devices[0].type:
            raise ConfigError(
                f"UNMASK_MORE_DEVICES {device}: replicas are all of one kind, {devices[0].type}"
            )
    return devices


def visible_gpus(devices: list[torch.device], visible: str | None) -> str:
    """What CUDA_VISIBLE_DEVICES must be for just these devices, where it was ``visible`` before."""
    names = visible.split(",") if visible else None
    chosen = [device.index or 0 for device in devices]
    return ",".join(names[index] if names else str(index) for index in chosen)


class _Stopped(BaseException):
    """A signal has come before all was started."""


def serve_replicas(settings: Settings) -> int:
    """Serve on this machine until a signal comes, and return which. ConfigError."""
    if settings.unix_socket is not None:
        raise ConfigError(f"UNMASK_UNIX_SOCKET {settings.unix_socket}: replicas listen at a port")
    if settings.port == 0:
        raise ConfigError("UNMASK_PORT 0: name the port at which replicas listen")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray listens at all addresses, and runs the code of whoever reaches it and has this.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    devices = devices_of(settings)
    gpus = len(devices) if devices[0].type == "cuda" else 0
    if gpus:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpus(devices, before)
    threads = threads_for(settings.cpu_workers, settings.threads).count
    app = application(settings.model_copy(update={"threads": threads}))
    import ray
    from ray import serve

    heard: list[int] = []
    started, told = threading.Event(), threading.Event()

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)
        told.set()
        if not started.is_set():
            raise _Stopped

    def listen() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, hear)

    try:
        listen()
        ray.init(
            "local",
            num_cpus=len(devices) + 1,
            num_gpus=gpus,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
        )
        listen()  # Ray has taken one of them
        serve.start(http_options={"host": settings.host, "port": settings.port})
        serve.run(app, name=APP, route_prefix="/")
        started.set()
        told.wait()
    except _Stopped:
        pass
    finally:
        started.set()
        serve.shutdown()
        ray.shutdown()
    return heard[0]
