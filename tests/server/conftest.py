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
import torch
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from unmask.families.base import ModelCard
from unmask.models.base import Condition
from unmask.pipeline import ModelInfo, Pipeline, Request, Start
from unmask.sampling.backbone import Pass
from unmask.sampling.plan import MAX_STEPS
from unmask.server.engine.engine import Engine, EngineOptions
from unmask.server.http.app import create_app
from unmask.settings import Settings

MODEL = "storybook-64"


class AnyWords:
    """Takes every prompt, and finds every word that stands in it."""

    def __call__(self, prompts: list[str]) -> Condition:
        mask = torch.ones(len(prompts), 3, dtype=torch.bool)
        return Condition(mask.long(), mask)

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        return [(1,)] if word in prompt else []

    def count(self, prompt: str) -> int:
        return 3


class Prompts:
    """A prefix that is its prompts."""

    def __init__(self, prompts: list[str]) -> None:
        self.prompts = prompts
        self.mask = torch.ones(len(prompts), 1)

    def select(self, rows: torch.Tensor) -> "Prompts":
        return Prompts([self.prompts[row] for row in rows.tolist()])

    @classmethod
    def join(cls, prefixes: list["Prompts"]) -> "Prompts":
        return cls([prompt for prefix in prefixes for prompt in prefix.prompts])


class FakeBackbone:
    """Logits of zeros; ``during`` is called within every pass with the prompts of its rows."""

    mask_id = 8
    attends = reuses = True

    def __init__(self) -> None:
        self.during: Callable[[list[str]], None] = lambda prompts: None
        self.batches: list[list[str]] = []

    def full(self, tokens, prefix, *, left, keep, attend):
        self.batches.append(prefix.prompts)
        self.during(prefix.prompts)
        attention = None if attend is None else torch.ones(len(attend), tokens.shape[1], 3)
        return Pass(torch.zeros(*tokens.shape, 8), prefix if keep else None, attention)

    def local(self, tokens, positions, prefix, cache, *, left):
        self.during(prefix.prompts)
        return torch.zeros(*tokens.shape, 8)

    def parameters(self):
        return iter([torch.zeros(25)])


class FakeTokenizer:
    patch = 8

    def parameters(self):
        return iter([])


class FakePipeline(Pipeline):
    """Plain pictures whose colour depends on everything that a picture depends on."""

    def __init__(self, name: str = MODEL) -> None:
        self.card = ModelCard(name, "Draws nothing well.", "halton", ())
        self.condition = AnyWords()
        self.backbone, self.tokenizer = FakeBackbone(), FakeTokenizer()
        self.device = torch.device("cpu")
        self.drawn: list[Request] = []
        self.info = ModelInfo(
            name=name,
            description=self.card.description,
            width=64,
            height=64,
            grid=(8, 8),
            parameters=1_000_000,
            codebook_size=8,
            condition="text",
            schedulers=("confidence", "halton", "random"),
            mask_schedules=("arccos", "cosine"),
            guidances=("constant", "interval", "linear"),
            count_rules=("planned",),
            max_steps=MAX_STEPS,
            max_n=10,
            max_prompt_characters=1000,
        )

    def encode_prompts(self, prompts):
        return Prompts(list(prompts))

    def preview(self, tokens):
        masked = int((tokens == self.backbone.mask_id).sum())
        return Image.new("RGB", (64, 64), (masked, 0, 0))

    def drawing(self, request, image_index):
        if image_index == 0:
            self.drawn.append(request)
        blank = torch.full((64,), self.backbone.mask_id)
        tokens = yield Start(self.plan(request, image_index), blank, blank == 8)
        assert (tokens < 8).all()
        return self.draw(request, image_index)

    def draw(self, request: Request, index: int) -> Image.Image:
        key = f"{request.prompt} {request.seed} {request.options.steps} {index}"
        image = Image.new("RGB", request.size, zlib.crc32(key.encode()) & 0xFFFFFF)
        if request.edit is not None:
            sent = Image.fromarray(request.edit.pixels)
            image = image.convert("RGBA" if request.edit.keeps_alpha else "RGB")
            image.paste(sent, mask=Image.fromarray(~request.edit.mask))
        return image


class Gate:
    """Holds a backbone inside a pass until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, prompts: list[str]) -> None:
        self.entered.set()
        assert self.opened.wait(10)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(load: Callable[[], Pipeline], **options: object) -> Iterator[TestClient]:
    settings = Settings(model=MODEL, **options)
    engine = Engine(EngineOptions.of(settings), lambda name, device: load())
    with TestClient(create_app(settings, engine)) as client:
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
    settings = Settings(model=MODEL, max_queue=1, max_rows=1)
    app = create_app(settings, Engine(EngineOptions.of(settings), lambda name, device: pipeline))
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
