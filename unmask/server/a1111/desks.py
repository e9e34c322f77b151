"""What each sender has on its way, so that progress, interrupt and skip reach that alone."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from PIL import Image

from unmask.pipeline import Generated
from unmask.server.engine.costs import WeighedRequest
from unmask.server.engine.face import EngineFace
from unmask.server.engine.tickets import Event, Preview, Progress
from unmask.server.http.order import Order

PREVIEWS = 3  # of each image: enough to see it come, and each is decoded whether it is seen or not
MOST_CHOICES = 10_000  # of models, by senders; the one that chose longest ago loses its choice


@dataclass(eq=False)
class Part:
    """One image of a request on its way."""

    weighed: WeighedRequest
    task: "asyncio.Task[Generated] | None" = None
    done: int = 0  # steps
    preview: Image.Image | None = None
    image: Image.Image | None = None

    def hear(self, event: Event) -> None:
        """What the engine tells of it."""
        if isinstance(event, Preview):
            self.preview = event.image
        elif isinstance(event, Progress):
            self.done = event.done

    @property
    def open(self) -> bool:
        """Whether it is still being drawn."""
        return self.task is None or not self.task.done()

    def give_up(self) -> None:
        """Draw it no further."""
        if self.task is not None:
            self.task.cancel()


@dataclass(eq=False)
class Going:
    """One request on its way."""

    job: str
    order: Order
    parts: list[Part]
    began: float = field(default_factory=time.time)
    interrupted: bool = False
    skipped: bool = False

    @property
    def steps(self) -> int:
        """Of all images."""
        return sum(part.weighed.cost.all_steps for part in self.parts)

    @property
    def done(self) -> int:
        """Steps of all images that were done, or are not wanted any more."""
        return sum(part.done if part.open else part.weighed.cost.all_steps for part in self.parts)

    @property
    def preview(self) -> Image.Image | None:
        """The image in the making that has come furthest."""
        shown = [part for part in self.parts if part.open and part.preview is not None]
        return max(shown, key=lambda part: part.done).preview if shown else None

    async def draw(self, engine: EngineFace) -> list[Part]:
        """Those of which there is a picture: finished, or where it was given up its last preview.
        What the engine raises of one of them ends all."""
        for part in self.parts:
            drawing = engine.submit(
                part.weighed,
                key=self.order.key,
                timeout=self.order.timeout,
                previews=PREVIEWS,
                on_event=part.hear,
            )
            part.task = asyncio.create_task(drawing)
        tasks = [part.task for part in self.parts if part.task is not None]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for part in self.parts:
                if part.task is not None and part.task.done() and not part.task.cancelled():
                    [part.image] = part.task.result().images
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return [part for part in self.parts if part.image or part.preview]


class Desks:
    """By sender: the requests on their way, the oldest first, and the model that was chosen."""

    def __init__(self) -> None:
        self._going: dict[str, list[Going]] = {}
        self._models: OrderedDict[str, str] = OrderedDict()

    def model(self, sender: str) -> str | None:
        """The model that the sender chose; None: the default one."""
        return self._models.get(sender)

    def choose(self, sender: str, model: str) -> None:
        """From now on the sender's requests are for this model."""
        self._models[sender] = model
        self._models.move_to_end(sender)
        while len(self._models) > MOST_CHOICES:
            self._models.popitem(last=False)

    def going(self, sender: str) -> list[Going]:
        """The requests of a sender."""
        return self._going.get(sender, [])

    def add(self, sender: str, going: Going) -> None:
        """A request begins."""
        self._going.setdefault(sender, []).append(going)

    def remove(self, sender: str, going: Going) -> None:
        """A request has ended."""
        self._going[sender].remove(going)
        if not self._going[sender]:
            del self._going[sender]

    def interrupt(self, sender: str) -> None:
        """Give up all that the sender has on its way."""
        for going in self.going(sender):
            going.interrupted = True
            for part in going.parts:
                part.give_up()

    def skip(self, sender: str) -> None:
        """Give up the first unfinished image of the sender's oldest request."""
        for going in self.going(sender)[:1]:
            part = next((part for part in going.parts if part.open), None)
            if part is not None:
                going.skipped = True
                part.give_up()
