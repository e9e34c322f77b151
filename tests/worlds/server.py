"""A pipeline that draws at once and on command, and engines, apps and servers around it.

Its ``request`` is the real one, so the bounds that the tests meet are those that users meet.
"""

import asyncio
import contextlib
import logging
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, cast

import httpx2
import torch
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor

from unmask.card import ModelCard
from unmask.editing import Edit
from unmask.errors import PromptTooLongError
from unmask.models.base import Condition, ImageBackbone
from unmask.models.conditions import ConditionEncoder
from unmask.pipeline import (
    Drawing,
    DrawRequest,
    Generated,
    ModelInfo,
    Pipeline,
    PreparedRequest,
    Start,
)
from unmask.sampling.backbone import Pass, Positions, RowTensors
from unmask.sampling.planned import MAX_STEPS
from unmask.server.engine.costs import OpenedModel, weigh
from unmask.server.engine.engine import Engine, EngineOptions, EngineState
from unmask.server.http.app import create_app
from unmask.server.http.server import Server
from unmask.settings import Settings
from unmask.tokenizers.base import Tokenizer

MODEL = "storybook"
SECONDS = 10.0  # nothing here takes so long
COPY_BYTES = 100  # of a fake pipeline's weights

Load = Callable[[str, str], Pipeline]
Until = Callable[[Callable[[], bool]], None]
Serve = Callable[..., contextlib.AbstractContextManager[TestClient]]
Fault = dict[str, Any]  # what is in the envelope of an error


class CheckFault(Protocol):
    """Checks that an answer is a refusal in the envelope, and gives what is in it."""

    def __call__(
        self, answer: httpx2.Response, status: int | None = None, param: str | None = None
    ) -> Fault: ...


class AnyWords:
    """Takes every prompt that is short enough, and finds every word that stands in it. All are
    known but ``aple``."""

    words = ("apple", "cat")

    max_text_tokens = 23
    max_chunks = 1

    def chunks(self, prompt: str) -> int:
        return 1

    def __call__(self, prompts: list[str], chunks: int = 1) -> Condition:
        if any(len(prompt.split()) > self.max_text_tokens for prompt in prompts):
            raise PromptTooLongError("the prompt is too long", "prompt")
        mask = torch.ones(len(prompts), 3, dtype=torch.bool)
        return Condition(mask.long(), mask)

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        return [(1,)] if word in prompt else []

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        return ("aple",) if "aple" in prompt.split() else ()

    def count(self, prompt: str) -> int:
        return 3


@dataclass(frozen=True)
class Prompts(RowTensors):
    """A prefix that is its prompts, as places in a list of all that there ever were."""

    row_axes = (0,)
    known: ClassVar[list[str]] = []
    joins: ClassVar[int] = 0

    places: Tensor

    @classmethod
    def of(cls, prompts: Sequence[str]) -> "Prompts":
        cls.known.extend(prompt for prompt in prompts if prompt not in cls.known)
        return cls(torch.tensor([cls.known.index(prompt) for prompt in prompts]))

    @property
    def prompts(self) -> list[str]:
        return [self.known[place] for place in self.places.tolist()]

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        Prompts.joins += 1
        return super().join(parts)


class FakeBackbone:
    """Logits of zeros; ``during`` is called within every pass with the prompts of its rows."""

    mask_id = 8
    gives_attention = has_memory = True
    hint_offsets = 0

    def __init__(self) -> None:
        self.during: Callable[[list[str]], None] = lambda prompts: None
        self.batches: list[list[str]] = []

    def full(
        self,
        tokens: Tensor,
        prefix: Prompts,
        *,
        steps_left: Tensor,
        remember: bool,
        attention_rows: Tensor | None,
    ) -> Pass:
        self.batches.append(prefix.prompts)
        self.during(prefix.prompts)
        attention = None
        if attention_rows is not None:
            attention = torch.ones(len(attention_rows), tokens.shape[1], 3)
        return Pass(torch.zeros(*tokens.shape, 8), prefix if remember else None, attention)

    def local(
        self,
        tokens: Tensor,
        positions: Positions,
        prefix: Prompts,
        memory: Prompts,
        *,
        steps_left: Tensor,
    ) -> Tensor:
        self.during(prefix.prompts)
        return torch.zeros(*tokens.shape, 8)

    def parameters(self) -> Iterator[Tensor]:
        return iter([torch.zeros(COPY_BYTES // 4)])


class FakeTokenizer:
    patch = 8

    def parameters(self) -> Iterator[Tensor]:
        return iter([])


class FakePipeline(Pipeline):
    """Plain pictures whose colour depends on everything that a picture depends on.

    What a prompt calls large is drawn in so many ``windows``, one after another.
    """

    def __init__(self, name: str = MODEL, windows: int = 1) -> None:
        self.card = ModelCard(name, "Draws nothing well.", "halton", ())
        self.windows = windows
        self.fake = FakeBackbone()
        self.condition = cast(ConditionEncoder, AnyWords())
        self.backbone = cast(ImageBackbone, self.fake)
        self.tokenizer = cast(Tokenizer, FakeTokenizer())
        self.device = torch.device("cpu")
        self.drawn: list[DrawRequest] = []
        self.info = ModelInfo(
            name=name,
            description=self.card.description,
            sizes=((64, 64),),
            grid=(8, 8),
            parameters=1_000_000,
            codebook_size=8,
            condition="text",
            schedulers=("confidence", "halton", "random"),
            mask_schedules=("arccos", "cosine"),
            guidances=("constant", "interval", "linear"),
            count_rules=("planned",),
            reuse_policies=("none", "recap"),
            max_steps=MAX_STEPS,
            max_n=10,
            max_prompt_characters=1000,
            max_text_tokens=self.condition.max_text_tokens,
            words=self.condition.words,
        )

    def encode_prompts(self, prompts: Sequence[str], chunks: int = 1) -> RowTensors:
        return Prompts.of(prompts)

    def prepare(self, request: DrawRequest) -> PreparedRequest:
        return PreparedRequest(request, None)

    def preview(self, tokens: Tensor, size: tuple[int, int] | None = None) -> Image.Image:
        masked = int((tokens == self.backbone.mask_id).sum())
        return Image.new("RGB", (64, 64), (masked, 0, 0))

    def drawing(self, prepared: PreparedRequest, image_index: int) -> Drawing:
        if image_index == prepared.request.image_index:
            self.drawn.append(prepared.request)
        return FakeDrawing(self, prepared.request, image_index)

    def draw(self, request: DrawRequest, index: int) -> Image.Image:
        key = f"{request.prompt} {request.seed} {request.options.steps} {index}"
        image = Image.new("RGB", request.size, zlib.crc32(key.encode()) & 0xFFFFFF)
        if isinstance(request.edit, Edit):
            sent = Image.fromarray(request.edit.pixels)
            image = image.convert("RGBA" if request.edit.keeps_alpha else "RGB")
            image.paste(sent, mask=Image.fromarray(~request.edit.mask))
        return image


class FakeDrawing(Drawing):
    """One window after another, and then a plain picture."""

    def __init__(self, pipeline: FakePipeline, request: DrawRequest, image_index: int) -> None:
        super().__init__()
        self.pipeline, self.request, self.image_index = pipeline, request, image_index
        self.windows = pipeline.windows if "large" in request.prompt else 1

    def start(self) -> list[Start]:
        return [self._window(0)]

    def finish(self, start: Start, tokens: Tensor) -> list[Start]:
        assert (tokens < 8).all()
        if start.part + 1 < self.windows:
            return [self._window(start.part + 1)]
        self.image = self.pipeline.draw(self.request, self.image_index)
        return []

    def _window(self, part: int) -> Start:
        blank = torch.full((64,), self.pipeline.backbone.mask_id)
        plan = self.pipeline.plan(self.request, self.image_index)
        return Start(plan, blank, blank == 8, part, self.windows)


class FakeSource:
    """Models that a function makes; the last part of a key is the model's name."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def name(self, key: str) -> str:
        return key.rpartition("/")[2]

    def size(self, key: str) -> int:
        return COPY_BYTES

    def load(self, key: str, device: str) -> Pipeline:
        return self._load(key, device)


class Gate:
    """Holds a backbone inside a pass until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, prompts: list[str]) -> None:
        self.entered.set()
        assert self.opened.wait(SECONDS)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


async def until(true: Callable[[], bool]) -> None:
    """``wait_until`` in an event loop."""
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(
    pipeline: FakePipeline,
    *,
    models: tuple[str, ...] = (),
    load: Load | None = None,
    source: FakeSource | None = None,
    **options: Any,
) -> AsyncIterator[Engine]:
    """An engine that has tried to load its default model."""
    source = source or FakeSource(load or (lambda key, device: pipeline))
    engine = Engine(EngineOptions(models=models or (pipeline.info.name,), **options), source)
    engine.start()
    await until(lambda: engine.state is not EngineState.STARTING)
    try:
        yield engine
    finally:
        await engine.stop()


def ask(
    engine: Engine,
    pipeline: Pipeline,
    prompt: str = "cat",
    n: int = 1,
    steps: int = 3,
    seed: int = 1,
    *,
    model: str | None = None,
    windows: int = 1,
    **options: Any,
) -> "asyncio.Task[Generated]":
    """A request to the model of a key (the pipeline's name if None), on its way."""
    request = pipeline.request(prompt, n=n, steps=steps, seed=seed)
    weighed = weigh(OpenedModel(model or engine.options.models[0], pipeline), request)
    cost = replace(weighed.cost, windows=windows, depth=windows)
    return asyncio.create_task(engine.submit(replace(weighed, cost=cost), **options))


@contextlib.contextmanager
def serving(
    load: Callable[[], Pipeline], address: str = "testclient", **options: Any
) -> Iterator[TestClient]:
    """A client of an app that sends from an address, without waiting for the model."""
    with serving_models(lambda key, device: load(), address, **options) as client:
        yield client


@contextlib.contextmanager
def serving_models(load: Load, address: str = "testclient", **options: Any) -> Iterator[TestClient]:
    """The same, of an app whose models are loaded by their keys."""
    settings = Settings(**{"model": MODEL, **options})
    engine = Engine(EngineOptions.of(settings), FakeSource(load))
    with TestClient(create_app(settings, engine), client=(address, 1)) as client:
        yield client


@contextlib.contextmanager
def log_as_it_was() -> Iterator[None]:
    """What a server changes of the process's log is undone: it would write where a test's output
    was."""
    root, ours = logging.getLogger(), logging.getLogger("unmask")
    before = root.handlers, root.level, ours.level
    try:
        yield
    finally:
        root.handlers = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        logging.captureWarnings(False)


@contextlib.contextmanager
def live_server(load: Load, **options: Any) -> Iterator[Server]:
    """A real server on some port of this machine, in a thread, without waiting for the model."""
    settings = Settings(**{"model": MODEL, "port": 0, "shutdown_timeout_seconds": 3, **options})
    with log_as_it_was():
        server = Server(settings, Engine(EngineOptions.of(settings), FakeSource(load)))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield server
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive()
