"""Requests on their way through the engine."""

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from enum import IntEnum

from PIL import Image

from unmask.pipeline import Drawn, Generated
from unmask.sampling.trace import Trace
from unmask.server.engine.costs import Cost, WeighedRequest


class Priority(IntEnum):
    """Whose turn comes first; a lower one waits while there is any higher."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True)
class Progress:
    """So many steps of all images are done."""

    done: int
    total: int
    ahead: int = 0  # requests that had their turn first when it was taken in


@dataclass(frozen=True)
class Preview:
    """How an image looks part of the way; ``number`` counts its previews from 0."""

    image_index: int
    number: int
    step: int  # so many of the image's steps are done
    image: Image.Image


@dataclass(frozen=True)
class Watched:
    """A step of an image that is watched: what it did to a window, which is the part-th of so many
    and whose first cell lies at ``corner`` (row, column) of the picture."""

    image_index: int
    step: int  # so many of the window's are done
    steps: int
    passes: float  # what it cost, in full passes of the backbone for one condition
    part: int
    parts: int
    corner: tuple[int, int]
    grid: tuple[int, ...]
    trace: Trace


Event = Progress | Preview | Watched
OnEvent = Callable[[Event], None]


@dataclass(eq=False)
class Ticket:
    """A request that was taken: who asks, and the promise of its images."""

    weighed: WeighedRequest
    key: str = ""
    priority: Priority = Priority.NORMAL
    previews: int = 0
    watched: bool = False
    on_event: OnEvent = lambda event: None
    promise: Future[Generated] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)
    began: float | None = None
    done_steps: int = 0
    images: dict[int, Drawn] = field(default_factory=dict)
    taken_by: str = ""  # the name of the worker

    @property
    def model(self) -> str:
        """The key that its model is served by: no two share one, as they may share a name."""
        return self.weighed.model.key

    @property
    def cost(self) -> Cost:
        """What it takes to draw it."""
        return self.weighed.cost

    @property
    def over(self) -> bool:
        """Nobody waits for it any more, or it has its answer."""
        return self.promise.done()

    @property
    def left(self) -> float:
        """The share of its steps that is still to be done."""
        return max(0.0, 1 - self.done_steps / max(self.cost.all_steps, 1))

    def cancel(self) -> None:
        """Give it up; its rows leave the batch at the next step."""
        self.promise.cancel()

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits, if it has no other answer yet."""
        try:
            self.promise.set_exception(error)
        except InvalidStateError:
            return

    def progress(self, steps: int = 1) -> None:
        """So many more steps are done."""
        self.done_steps += steps
        self.tell(Progress(self.done_steps, self.cost.all_steps))

    def tell(self, event: Event) -> None:
        """An event, unless nobody waits."""
        if not self.over:
            self.on_event(event)

    def give(self, image_index: int, image: Drawn) -> None:
        """An image is finished; the last one is the answer."""
        self.images[image_index] = image
        if len(self.images) == self.weighed.request.n:
            began = self.arrived if self.began is None else self.began
            request = self.weighed.request
            images = [self.images[index] for index in request.image_indices]
            try:
                self.promise.set_result(Generated(images, request, time.monotonic() - began))
            except InvalidStateError:
                return
