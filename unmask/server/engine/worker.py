"""A worker: one thread, one device, and the rows that it moves on step by step."""

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from unmask.errors import DrawingError
from unmask.pipeline import Pipeline, Start
from unmask.sampling.backbone import Prefix
from unmask.sampling.padding import Padded
from unmask.sampling.step import Row, step
from unmask.server.engine.figures import Figures
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.tickets import Preview, Ticket

log = logging.getLogger(__name__)

NAP_SECONDS = 0.05  # how long an idle worker sleeps before it looks for those who left


@dataclass(eq=False)
class Strand:
    """One image of a ticket: what draws it, and the row that is being stepped for it now."""

    ticket: Ticket
    image_index: int
    pipeline: Pipeline
    prefix: Prefix  # of the condition and the null
    drawing: Generator[Start, Tensor, Image.Image]
    start: Start | None = None
    tokens: Tensor | None = None
    row: Row | None = None
    previewed: int = 0

    def begin(self, start: Start) -> None:
        """Put what its drawing asks for on a fresh row."""
        self.start, self.tokens = start, start.tokens
        self.row = Row.begin(start.plan, start.unknown)


class Worker:
    """Takes tickets from the queue whenever it has room, and steps all its rows in one batch a
    model: a tick. Rows come and go between steps.

    ``find`` gives this worker's copy of a model. ``ended`` hears why the thread has ended, None if
    it was told to. ``lightest`` tells whether no other worker has fewer rows.
    """

    def __init__(
        self,
        name: str,
        queue: FairQueue,
        figures: Figures,
        find: Callable[[str], Pipeline],
        *,
        max_rows: int,
        finisher: bool,
        pad: bool,
        lightest: Callable[["Worker"], bool],
        ended: Callable[["Worker", BaseException | None], None],
    ) -> None:
        self.name, self.queue, self.figures, self.find = name, queue, figures, find
        self.max_rows, self.lightest, self.ended = max_rows, lightest, ended
        self.pad = pad
        self.stopping = False
        self.pending: deque[tuple[Ticket, int]] = deque()  # images of a taken ticket, not begun
        self.fresh: list[tuple[Ticket, int]] = []  # images that begin in this tick
        self.running: list[Strand] = []
        self.finishing: dict[Future[Start | Image.Image], Strand] = {}
        self._padded: dict[str, Padded[Prefix]] = {}
        self._joined: tuple[list[Strand], Prefix] | None = None
        # On a GPU tokens turn into pixels beside the next step. On a CPU they would only take the
        # step's cores away.
        self._finisher = ThreadPoolExecutor(1, f"{name}-finisher") if finisher else None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take tickets."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its step."""
        self.stopping = True
        with self.queue.changed:
            self.queue.changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def load(self) -> int:
        """Rows that it has or has promised to begin."""
        return len(self.running) + len(self.finishing) + len(self.pending) + len(self.fresh)

    def _run(self) -> None:
        reason: BaseException | None = None
        try:
            with torch.inference_mode():
                while not self.stopping:
                    self.tick()
        except BaseException as error:  # no frame above would tell those who wait
            log.critical("worker %s has died", self.name, exc_info=True)
            reason = error
        finally:
            if self._finisher is not None:
                self._finisher.shutdown(wait=False, cancel_futures=True)
            self.ended(self, reason)

    def tick(self) -> None:
        """Drop who left, take in what is finished and what is new, and step everybody once."""
        began = time.perf_counter()
        self.sweep()
        self.collect()
        self.admit()
        if not self.running:
            self.rest()
            return
        for strands in self.groups():
            self.advance(strands)
        self.figures.tick_seconds += time.perf_counter() - began

    def rest(self) -> None:
        """Sleep until something may have changed."""
        with self.queue.changed:
            if not self.stopping and not len(self.queue) and not self.pending:
                self.queue.changed.wait(NAP_SECONDS)

    def sweep(self) -> None:
        """Let go of what nobody waits for any more."""
        self.running = [strand for strand in self.running if not strand.ticket.over]
        self.pending = deque(entry for entry in self.pending if not entry[0].over)

    def collect(self) -> None:
        """Take back what the finisher has done."""
        for future in [future for future in self.finishing if future.done()]:
            strand = self.finishing.pop(future)
            error = future.exception()
            if error is not None:
                strand.ticket.fail(error)
            else:
                self.received(strand, future.result())

    def admit(self) -> None:
        """Begin new images while there is room."""
        while len(self.running) + len(self.finishing) + len(self.fresh) < self.max_rows:
            if not self.pending:
                ticket = self.queue.take(self.name) if self.lightest(self) else None
                if ticket is None:
                    break
                ticket.began = time.monotonic()
                self.figures.waits.append(ticket.began - ticket.arrived)
                self.pending.extend((ticket, i) for i in range(ticket.request.n))
            self.fresh.append(self.pending.popleft())
        fresh, self.fresh = self.fresh, []
        tickets = list(dict.fromkeys(ticket for ticket, _ in fresh))
        for ticket in tickets:
            try:
                pipeline = self.find(ticket.model)
                prefix = pipeline.encode([ticket.request])
            except Exception as error:
                ticket.fail(error)
                continue
            for owner, index in fresh:
                if owner is ticket:
                    drawing = pipeline.drawing(ticket.request, index)
                    self.resume(Strand(ticket, index, pipeline, prefix, drawing), None)

    def groups(self) -> list[list[Strand]]:
        """The running strands, by model."""
        groups: dict[int, list[Strand]] = {}
        for strand in self.running:
            groups.setdefault(id(strand.pipeline), []).append(strand)
        return list(groups.values())

    def advance(self, strands: list[Strand]) -> None:
        """Move strands of one model on by a step; those that make it fail leave alone."""
        rows = [strand.row for strand in strands if strand.row is not None]
        before = [copy.copy(row) for row in rows]
        backbone = self.backbone(strands[0])
        computed, padding = backbone.computed, backbone.padding
        began = time.perf_counter()
        try:
            tokens = step(
                backbone,
                torch.stack([strand.tokens for strand in strands if strand.tokens is not None]),
                self.prefix(strands),
                rows,
            )
        except Exception as error:
            self.isolate(strands, before, error)
            return
        seconds = time.perf_counter() - began
        work = sum(
            row.plan.tokens * (1 + old.now.null) for row, old in zip(rows, before, strict=True)
        )
        self.figures.stepped(
            seconds,
            len(rows),
            work,
            backbone.computed - computed,
            backbone.padding - padding,
        )
        for strand, row, own in zip(strands, rows, tokens, strict=True):
            strand.tokens = own
            strand.ticket.progress()
            if row.done:
                self.finish(strand, row)
            else:
                self.preview(strand, row)

    def backbone(self, strand: Strand) -> Padded[Prefix]:
        """What steps a strand: its model's backbone, padded if this worker pads."""
        model, backbone = strand.ticket.model, strand.pipeline.backbone
        if model not in self._padded or self._padded[model].backbone is not backbone:
            self._padded[model] = Padded(backbone, self.pad)
        return self._padded[model]

    def isolate(self, strands: list[Strand], before: list[Row], error: Exception) -> None:
        """Step the halves apart, until what fails stands alone; out of memory, there is room for
        so many only."""
        for strand, row in zip(strands, before, strict=True):
            strand.row = row
        if len(strands) == 1:
            log.warning("a row has failed", exc_info=error)
            self.leave(strands[0])
            strands[0].ticket.fail(error)
            return
        half = len(strands) // 2
        if _out_of_memory(error):
            self.max_rows = max(1, half)
            log.warning("out of memory with %d rows: at most %d from now on", len(strands), half)
        self.advance(strands[:half])
        self.advance(strands[half:])

    def finish(self, strand: Strand, row: Row) -> None:
        """All steps are done: turn the tokens into pixels, here or beside the next step."""
        self.leave(strand)
        if not bool(row.sound):
            strand.ticket.fail(DrawingError("the model's logits are not numbers for this request"))
            return
        if self._finisher is None:
            self.resume(strand, strand.tokens)
            return
        future = self._finisher.submit(_resumed, strand.drawing, strand.tokens)
        self.finishing[future] = strand
        future.add_done_callback(lambda _: self.wake())

    def wake(self) -> None:
        """Something may be there to do."""
        with self.queue.changed:
            self.queue.changed.notify_all()

    def resume(self, strand: Strand, tokens: Tensor | None) -> None:
        """Let a drawing go on, here and now."""
        began = time.perf_counter()
        try:
            made = _resumed(strand.drawing, tokens)
        except Exception as error:
            log.warning("a drawing has failed", exc_info=error)
            strand.ticket.fail(error)
        else:
            self.figures.busy_seconds += time.perf_counter() - began
            self.received(strand, made)

    def received(self, strand: Strand, made: Start | Image.Image) -> None:
        """A drawing asks for more steps, or has its image."""
        if isinstance(made, Start):
            strand.begin(made)
            self.running.append(strand)
            return
        ticket = strand.ticket
        ticket.give(strand.image_index, made)
        if len(ticket.images) == ticket.request.n and ticket.began is not None:
            self.figures.draws.append(time.monotonic() - ticket.began)

    def preview(self, strand: Strand, row: Row) -> None:
        """Show how far an image is, if it is time for one of the previews that were asked for."""
        ticket, steps = strand.ticket, len(row.plan.steps)
        due = row.step * (ticket.previews + 1) // steps
        if ticket.previews and strand.previewed < due <= ticket.previews and not ticket.over:
            assert strand.tokens is not None
            number, strand.previewed = strand.previewed, due
            pipeline, index, tokens = strand.pipeline, strand.image_index, strand.tokens

            def show() -> None:
                with torch.inference_mode():
                    ticket.tell(Preview(index, number, pipeline.preview(tokens)))

            if self._finisher is None:
                show()
            else:
                self._finisher.submit(show)

    def leave(self, strand: Strand) -> None:
        """Take a strand out of the batch."""
        self.running = [other for other in self.running if other is not strand]

    def prefix(self, strands: Sequence[Strand]) -> Prefix:
        """The conditions of strands, then their nulls; joined anew when others come or go."""
        who = list(strands)  # which are kept, so that no other can take the place of one
        if self._joined is None or self._joined[0] != who:
            both = type(strands[0].prefix).join([strand.prefix for strand in strands])
            order = torch.arange(2 * len(strands)).view(-1, 2).T.flatten()
            self._joined = who, both.select(order.to(strands[0].pipeline.device))
        return self._joined[1]


def _resumed(
    drawing: Generator[Start, Tensor, Image.Image], tokens: Tensor | None
) -> Start | Image.Image:
    """What a drawing asks for next, or the image."""
    with torch.inference_mode():
        try:
            return next(drawing) if tokens is None else drawing.send(tokens)
        except StopIteration as end:
            image: Image.Image = end.value
            return image


def _out_of_memory(error: Exception) -> bool:
    """A device, or the CPU's allocator, had no more."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
