"""Stores of jobs, and a server of its own process that may be killed at any moment."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any

import httpx2
from sqlalchemy import Engine

from tests.worlds.clip_models import clip_pipeline
from tests.worlds.server import MODEL, SECONDS, FakePipeline, live_server
from unmask.server.jobs.job import NewJob
from unmask.server.jobs.store import JobStore

OpenEngine = Callable[[], Engine]

STEP_SECONDS = 0.01
CLIPS = "tiny-clips"
LEASE_SECONDS = 1.5


def job_store(engine: Engine, lifetime: float = 3600.0, unended_bytes: int = 1 << 20) -> JobStore:
    return JobStore(engine, lifetime, unended_bytes)


def new_job(owner: str = "ann", key: str | None = None, digest: str = "", **form: object) -> NewJob:
    return NewJob(owner, "images.generation", form, {}, key, digest)


class KilledServer:
    """A server in a process of its own, started anew after each kill."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.worlds.jobs"])
        self._process: BaseProcess | None = None
        self.url = ""

    def start(self) -> None:
        receiving, sending = self._context.Pipe(duplex=False)
        self._process = self._context.Process(target=_serve, args=(self._options, sending))
        self._process.start()
        assert receiving.poll(SECONDS * 3)
        self.url = f"http://127.0.0.1:{receiving.recv()}"

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def wait(self, true: Callable[[httpx2.Client], bool]) -> None:
        deadline = time.monotonic() + SECONDS * 3
        with httpx2.Client(base_url=self.url) as client:
            while not true(client):
                assert time.monotonic() < deadline, "it never came true"
                time.sleep(0.02)


def _serve(more: Mapping[str, Any], port: "multiprocessing.connection.Connection") -> None:
    """In the process that will be killed."""
    import torch

    from unmask.server.state import presence

    torch.set_num_threads(1)
    presence.LEASE_SECONDS = LEASE_SECONDS
    pipeline = FakePipeline()
    pipeline.fake.during = lambda prompts: time.sleep(STEP_SECONDS)
    models = {MODEL: pipeline, CLIPS: clip_pipeline()}
    options = {"jobs_at_once": 0, "running_jobs": 3, "more_models": [CLIPS], **more}
    with live_server(lambda key, device: models[key], **options) as server:
        port.send(server.bound_port)
        while True:
            time.sleep(SECONDS)
