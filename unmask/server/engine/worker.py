"""A worker: one thread, one device, and the rows that it moves on step by step."""

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from unmask.errors import DrawingError
from unmask.pipeline import Drawing, Pipeline, Start
from unmask.sampling.backbone import Pair
from unmask.sampling.padding import Padded
from unmask.sampling.row import Batch, Row
from unmask.sampling.step import step
from unmask.server.engine.figures import Figures
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.tickets import Preview, Ticket

log = logging.getLogger(__name__)

NAP_SECONDS = 0.05  # how long an idle worker sleeps before it looks for those who left


@dataclass(eq=False)
class Strand:
    """One image of a ticket, and what draws it."""

    ticket: Ticket
    image_index: int
    pipeline: Pipeline
    pair: Pair  # of its condition and the null
    drawing: Drawing
    previewed: int = 0


@dataclass(eq=False)
class Run:
    """A row of a strand, from what its drawing starts it with; an edit has several at a time."""

    strand: Strand
    start: Start
    row: Row


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
        self.waiting: deque[tuple[Strand, Start]] = deque()  # what drawings want to have run next
        self.running: list[Run] = []
        self.finishing: dict[Future[list[Start]], Strand] = {}
        self._padded: dict[str, Padded] = {}
        self._batches: dict[int, tuple[list[Run], Batch]] = {}  # of each pipeline, as it ran last
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
        begun = len(self.running) + len(self.finishing) + len(self.waiting)
        return begun + len(self.pending) + len(self.fresh)

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
        self.begin()
        if not self.running:
            self.rest()
            return
        for runs in self.groups():
            self.advance(runs)
        self.figures.tick_seconds += time.perf_counter() - began

    def rest(self) -> None:
        """Sleep until something may have changed."""
        with self.queue.changed:
            if not self.stopping and not len(self.queue) and not self.pending:
                self.queue.changed.wait(NAP_SECONDS)

    def sweep(self) -> None:
        """Let go of what nobody waits for any more."""
        self.running = [run for run in self.running if not run.strand.ticket.over]
        self.waiting = deque(entry for entry in self.waiting if not entry[0].ticket.over)
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
        while self.load - len(self.pending) < self.max_rows:
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
                pair = pipeline.encode([ticket.request])
            except Exception as error:
                ticket.fail(error)
                continue
            for owner, index in fresh:
                if owner is ticket:
                    drawing = pipeline.drawing(ticket.prepared, index)
                    strand = Strand(ticket, index, pipeline, pair, drawing)
                    self.go_on(strand, drawing.start)

    def begin(self) -> None:
        """Put what drawings want to have run into the batch, while there is room."""
        while self.waiting and len(self.running) < self.max_rows:
            strand, start = self.waiting.popleft()
            row = Row.begin(start.plan, start.tokens, start.unknown)
            self.running.append(Run(strand, start, row))

    def groups(self) -> list[list[Run]]:
        """What runs, by model."""
        groups: dict[int, list[Run]] = {}
        for run in self.running:
            groups.setdefault(id(run.strand.pipeline), []).append(run)
        return list(groups.values())

    def advance(self, runs: list[Run]) -> None:
        """Move rows of one model on by a step; those that make it fail leave alone."""
        before = [copy.copy(run.row) for run in runs]
        backbone = self.backbone(runs[0].strand)
        computed, padding = backbone.computed, backbone.padding
        began = time.perf_counter()
        try:
            step(self.batch(runs, backbone))
        except Exception as error:
            self.isolate(runs, before, error)
            return
        seconds = time.perf_counter() - began
        work = sum(row.plan.tokens * (1 + row.now.null) for row in before)
        self.figures.stepped(
            seconds,
            len(runs),
            work,
            backbone.computed - computed,
            backbone.padding - padding,
        )
        for run in runs:
            run.strand.ticket.progress()
            if run.row.done:
                self.finish(run)
            else:
                self.preview(run)

    def backbone(self, strand: Strand) -> Padded:
        """What steps a strand: its model's backbone, padded if this worker pads."""
        model, backbone = strand.ticket.model, strand.pipeline.backbone
        if model not in self._padded or self._padded[model].backbone is not backbone:
            self._padded[model] = Padded(backbone, self.pad)
        return self._padded[model]

    def batch(self, runs: list[Run], backbone: Padded) -> Batch:
        """The rows of one model as a batch, made anew when one comes or goes."""
        key = id(runs[0].strand.pipeline)
        known = self._batches.get(key)
        # The runs are kept, so that no other can take the place of one.
        if known is None or known[0] != runs:
            pair = Pair.join([run.strand.pair for run in runs])
            known = list(runs), Batch(backbone, [run.row for run in runs], pair)
            self._batches[key] = known
        return known[1]

    def isolate(self, runs: list[Run], before: list[Row], error: Exception) -> None:
        """Step the halves apart, until what fails stands alone; out of memory, there is room for
        so many only."""
        self._batches.clear()  # which may be half a step further
        for run, row in zip(runs, before, strict=True):
            run.row = row
        if len(runs) == 1:
            log.warning("a row has failed", exc_info=error)
            self.leave(runs[0])
            runs[0].strand.ticket.fail(error)
            return
        half = len(runs) // 2
        if _out_of_memory(error):
            self.max_rows = max(1, half)
            log.warning("out of memory with %d rows: at most %d from now on", len(runs), half)
        self.advance(runs[:half])
        self.advance(runs[half:])

    def finish(self, run: Run) -> None:
        """All steps are done: turn the tokens into pixels, here or beside the next step."""
        self.leave(run)
        strand, start, tokens = run.strand, run.start, run.row.tokens
        if not bool(run.row.sound):
            strand.ticket.fail(DrawingError("the model's logits are not numbers for this request"))
            return

        def turn() -> list[Start]:
            with torch.inference_mode():
                return strand.drawing.finish(start, tokens)

        if self._finisher is None:
            self.go_on(strand, turn)
            return
        future = self._finisher.submit(turn)
        self.finishing[future] = strand
        future.add_done_callback(lambda _: self.wake())

    def wake(self) -> None:
        """Something may be there to do."""
        with self.queue.changed:
            self.queue.changed.notify_all()

    def go_on(self, strand: Strand, turn: Callable[[], list[Start]]) -> None:
        """Let a drawing go on, here and now."""
        began = time.perf_counter()
        try:
            starts = turn()
        except Exception as error:
            log.warning("a drawing has failed", exc_info=error)
            strand.ticket.fail(error)
        else:
            self.figures.busy_seconds += time.perf_counter() - began
            self.received(strand, starts)

    def received(self, strand: Strand, starts: list[Start]) -> None:
        """A drawing asks for more steps, or has its image."""
        self.waiting.extend((strand, start) for start in starts)
        if strand.drawing.image is None:
            return
        ticket = strand.ticket
        ticket.give(strand.image_index, strand.drawing.image)
        if len(ticket.images) == ticket.request.n and ticket.began is not None:
            self.figures.draws.append(time.monotonic() - ticket.began)

    def preview(self, run: Run) -> None:
        """Show how far an image is, if it is time for one of the previews that were asked for."""
        strand, row = run.strand, run.row
        ticket, steps = strand.ticket, len(row.plan.steps)
        due = row.step * (ticket.previews + 1) // steps
        if ticket.previews and strand.previewed < due <= ticket.previews and not ticket.over:
            number, strand.previewed = strand.previewed, due
            pipeline, index, tokens = strand.pipeline, strand.image_index, row.tokens

            def show() -> None:
                with torch.inference_mode():
                    ticket.tell(Preview(index, number, pipeline.preview(tokens)))

            if self._finisher is None:
                show()
            else:
                self._finisher.submit(show)

    def leave(self, run: Run) -> None:
        """Take a row out of the batch."""
        self.running = [other for other in self.running if other is not run]


def _out_of_memory(error: Exception) -> bool:
    """A device, or the CPU's allocator, had no more."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
