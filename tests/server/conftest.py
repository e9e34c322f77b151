"""A pipeline that draws at once and on command, and apps, clients and live servers around it.

Its ``request`` is the real one, so the bounds that the tests meet are those that users meet.
"""

import contextlib
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from unmask.pipeline import Generated, ModelCard, ModelInfo, Pipeline, Request
from unmask.sampling.plan import MAX_STEPS
from unmask.server.app import create_app
from unmask.server.worker import Worker
from unmask.settings import Settings

MODEL = "storybook-64"


class AnyWords:
    """Takes every prompt, and finds every word that stands in it."""

    def __call__(self, prompts: list[str]) -> None:
        pass

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        return [(1,)] if word in prompt else []


class FakePipeline(Pipeline):
    """Plain pictures whose colour depends on everything that a picture depends on."""

    def __init__(self) -> None:
        self.card = ModelCard(MODEL, "Draws nothing well.", "halton", ())
        self.condition = AnyWords()
        self.drawn: list[Request] = []
        self.during: Callable[[int], None] = lambda step: None  # called within every step
        self.info = ModelInfo(
            name=MODEL,
            description=self.card.description,
            width=64,
            height=64,
            grid=(8, 8),
            parameters=1_000_000,
            codebook_size=512,
            condition="text",
            schedulers=("confidence", "halton", "random"),
            mask_schedules=("arccos", "cosine"),
            guidances=("constant", "interval", "linear"),
            count_rules=("planned",),
            max_steps=MAX_STEPS,
            max_n=10,
            max_prompt_characters=1000,
        )

    def run(self, request, on_step=None):
        self.drawn.append(request)
        steps = request.options.steps
        for step in range(steps):
            self.during(step)
            if on_step:
                on_step(step + 1, steps)
        return Generated([self.draw(request, i) for i in range(request.n)], request, 0.01)

    def draw(self, request: Request, index: int) -> Image.Image:
        key = f"{request.prompt} {request.seed} {request.options.steps} {index}"
        image = Image.new("RGB", request.size, zlib.crc32(key.encode()) & 0xFFFFFF)
        if request.edit is not None:
            sent = Image.fromarray(request.edit.pixels)
            image = image.convert("RGBA" if request.edit.keeps_alpha else "RGB")
            image.paste(sent, mask=Image.fromarray(~request.edit.mask))
        return image


class Gate:
    """Holds a pipeline inside its first step until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, step: int) -> None:
        self.entered.set()
        assert self.opened.wait(10)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(load: Callable[[], Pipeline], **options: object) -> Iterator[TestClient]:
    settings = Settings(**options)
    with TestClient(create_app(settings, Worker(load, settings.max_queue))) as client:
        yield client


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    return wait_until


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def serve() -> Callable[..., contextlib.AbstractContextManager[TestClient]]:
    """Makes a client from a load function and settings, without waiting for the model."""
    return serving


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline()


@pytest.fixture
def client(pipeline: FakePipeline) -> Iterator[TestClient]:
    with serving(lambda: pipeline, max_queue=4, max_body_bytes=100_000) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def live(pipeline: FakePipeline) -> Iterator[int]:
    """The port of a real server on this machine."""
    settings = Settings(max_queue=1)
    app = create_app(settings, Worker(lambda: pipeline, settings.max_queue))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def fault() -> Callable[..., dict[str, str | None]]:
    """Checks that an answer is a refusal in the envelope, and gives what is in it."""

    def check(answer, status: int | None = None, param: str | None = None):
        assert status in (None, answer.status_code), answer.text
        assert set(json.loads(answer.content)) == {"error"}
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert "Traceback" not in error["message"]
        assert param in (None, error["param"])
        assert answer.headers["x-request-id"]
        return error

    return check
