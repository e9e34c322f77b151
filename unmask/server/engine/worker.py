"""A worker: one thread, one device, and the rows that it moves on step by step."""

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Set
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from unmask.errors import DeviceError, DrawingError
from unmask.pipeline import Pipeline, Start
from unmask.sampling.row import Row
from unmask.sampling.step import step
from unmask.server.engine.figures import Figures
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.shares import Shares
from unmask.server.engine.strands import Group, Run, Strand
from unmask.server.engine.tickets import Preview, Ticket

log = logging.getLogger(__name__)

NAP_SECONDS = 0.25  # how long an idle worker sleeps if nobody wakes it
GUESTS = 4  # one more row for so many, of keys that find it full


class Worker:
    """Takes tickets from the queue whenever it has room, and steps all its rows in one batch a
    model, grid and length of condition: a tick. Rows come and go between steps.

    ``copy_of`` gives this worker's copy of a model by its key. ``has_most_room`` tells whether no
    other worker has more. ``on_end`` hears why the thread has ended, None if it was told to.
    ``max_rows`` may be begun at a time, ``step_rows`` are stepped at a time.
    ``finisher``: turn tokens into pixels in a second thread, beside the next step. ``pad``: run
    batches of powers of two only.
    """

    def __init__(
        self,
        name: str,
        queue: FairQueue,
        figures: Figures,
        copy_of: Callable[[str], Pipeline],
        *,
        max_rows: int,
        step_rows: int,
        finisher: bool,
        pad: bool,
        has_most_room: Callable[["Worker"], bool],
        on_end: Callable[["Worker", BaseException | None], None],
    ) -> None:
        self.name, self.queue, self.figures, self.copy_of = name, queue, figures, copy_of
        self.max_rows, self.step_rows, self.pad = max_rows, step_rows, pad
        self.has_most_room, self.on_end = has_most_room, on_end
        self.stopping = False
        self.unbegun: deque[tuple[Ticket, int]] = deque()  # images of tickets that were taken
        self.parked: deque[tuple[Strand, Start]] = deque()  # further windows, which let others pass
        self.parked_is_next = False
        self.running: list[Run] = []
        self.finishing: dict[Future[list[Start]], Strand] = {}
        self.shares = Shares(max_rows)
        self.groups: dict[str, Group] = {}  # of models that have rows here, by key
        self._finisher = ThreadPoolExecutor(1, f"{name}-finisher") if finisher else None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take tickets."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its step."""
        self.stopping = True
        self.queue.wake()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def room(self) -> int:
        """How many more rows it may run than it has, or has promised to begin."""
        return self.max_rows - len(self.running) - len(self.finishing) - len(self.unbegun)

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
            self.on_end(self, reason)

    def tick(self) -> None:
        """Drop who left, take in what is finished and what is new, and step everybody once."""
        began, seen = time.perf_counter(), self.queue.changes
        self.sweep()
        self.collect()
        self.admit()
        if not self.running:
            self.rest(seen)
            return
        together: dict[object, list[Run]] = {}
        chosen = self.shares.choose(self.running, min(self.max_rows, self.step_rows))
        for run in chosen:
            together.setdefault(run.kind, []).append(run)
        for runs in together.values():
            self.advance(runs[0].strand.group, runs)
        self.figures.ticked(time.perf_counter() - began)

    def rest(self, seen: int) -> None:
        """Sleep until something has changed since ``seen`` was read off the queue."""
        if not self.stopping:
            self.queue.wait(seen, NAP_SECONDS)

    def sweep(self) -> None:
        """Let go of what nobody waits for any more, and of models that have no rows here."""
        self.running = [run for run in self.running if not run.ticket.over]
        self.parked = deque(entry for entry in self.parked if not entry[0].ticket.over)
        self.unbegun = deque(image for image in self.unbegun if not image[0].over)
        strands = [run.strand for run in self.running] + [strand for strand, _ in self.parked]
        in_use = {id(strand.group) for strand in (*strands, *self.finishing.values())}
        self.groups = {key: group for key, group in self.groups.items() if id(group) in in_use}
        for group in self.groups.values():
            group.forget_batches([run for run in self.running if run.strand.group is group])

    def collect(self) -> None:
        """Take back what the finisher has done."""
        for future in [future for future in self.finishing if future.done()]:
            strand = self.finishing.pop(future)
            error = future.exception()
            if error is not None:
                self.fail(strand.ticket, error)
            else:
                self.receive(strand, future.result())

    def admit(self) -> None:
        """Begin new images, and go on with parked ones, while there is room. Where others fill the
        room a key that has nothing here may begin one more: only some rows are stepped at a time
        then, and it would wait for a whole image of theirs otherwise."""
        while len(self.running) + len(self.finishing) < self.max_rows:
            if self.parked and (self.parked_is_next or not (self.unbegun or self.take())):
                self.running.append(Run.of(*self.parked.popleft()))
                self.parked_is_next = False
            elif self.unbegun or self.take():
                self.begin(*self.unbegun.popleft())
            else:
                break
        while len(self.running) + len(self.finishing) < self.max_rows + self.max_rows // GUESTS:
            here = {run.ticket.key for run in self.running}
            here |= {ticket.key for ticket, _ in self.unbegun}
            if not self.take(here):
                break
            ticket = self.unbegun[-1][0]
            self.unbegun.remove((ticket, 0))
            self.begin(ticket, 0)

    def take(self, but: Set[str] = frozenset()) -> bool:
        """Take the next ticket of a key that is none of these, if there is one for this worker;
        then parked rows are next."""
        ticket = self.queue.take(self.name, but) if self.has_most_room(self) else None
        if ticket is None:
            return False
        ticket.began, self.parked_is_next = time.monotonic(), True
        self.figures.spent("queue", ticket.model, ticket.began - ticket.arrived)
        self.unbegun.extend((ticket, i) for i in ticket.weighed.request.image_indices)
        return True

    def begin(self, ticket: Ticket, image_index: int) -> None:
        """Begin an image of a ticket."""
        try:
            pipeline = self.copy_of(ticket.model)
            group = self.groups.get(ticket.model)
            if group is None or group.pipeline is not pipeline:
                group = self.groups[ticket.model] = Group(ticket.model, pipeline, self.pad)
            before = time.perf_counter()
            pair = pipeline.encode([ticket.weighed.request])
            self.figures.spent("encode", ticket.model, time.perf_counter() - before)
            strand = Strand(ticket, image_index, group, pair)
            starts = strand.start()
            self.running += [Run.of(strand, start) for start in starts[:1]]
        except Exception as error:
            self.fail(ticket, error)
        else:
            self.receive(strand, starts[1:])

    def advance(self, group: Group, runs: list[Run]) -> None:
        """Move rows of one model on by a step; those that make it fail leave alone."""
        before = [copy.copy(run.row) for run in runs]
        backbone = group.backbone
        computed, padding = backbone.computed, backbone.padding
        began = time.perf_counter()
        try:
            step(group.batch(runs))
        except Exception as error:
            self.isolate(group, runs, before, error)
            return
        work = sum(row.plan.tokens * (1 + row.now.null) for row in before)
        self.figures.stepped(group.key, time.perf_counter() - began, len(runs), work)
        self.figures.computed(backbone.computed - computed, backbone.padding - padding)
        for run, row in zip(runs, before, strict=True):
            run.strand.steps_done += 1
            run.tell(row)
            run.ticket.progress()
            if run.row.done:
                self.finish(run)
            else:
                self.preview(run)

    def isolate(self, group: Group, runs: list[Run], before: list[Row], error: Exception) -> None:
        """Step the halves apart, until what fails stands alone; out of memory, there is room for
        so many only."""
        if _is_of_device(error):
            raise DeviceError("the device has failed in a step") from error
        group.forget_batches()
        for run, row in zip(runs, before, strict=True):
            run.row = row
        if len(runs) == 1:
            self.leave(runs[0])
            self.fail(runs[0].ticket, error)
            return
        half = len(runs) // 2
        if _is_out_of_memory(error):
            self.max_rows = max(1, half)
            log.warning("out of memory with %d rows: at most %d from now on", len(runs), half)
        self.advance(group, runs[:half])
        self.advance(group, runs[half:])

    def finish(self, run: Run) -> None:
        """All steps are done: turn the tokens into pixels, here or beside the next step."""
        self.leave(run)
        self.figures.spent("steps", run.ticket.model, time.perf_counter() - run.began)
        if not bool(run.row.finite):
            error = DrawingError("the model's logits are not numbers for this request")
            self.fail(run.ticket, error)
            return
        if self._finisher is None:
            self.resume(run)
            return
        future = self._finisher.submit(self.decode, run)
        self.finishing[future] = run.strand
        future.add_done_callback(lambda _: self.queue.wake())

    def decode(self, run: Run) -> list[Start]:
        """Turn the tokens into pixels; what can be run then."""
        began = time.perf_counter()
        starts = run.strand.finish(run)
        self.figures.spent("decode", run.ticket.model, time.perf_counter() - began)
        return starts

    def resume(self, run: Run) -> None:
        """Let a drawing go on, here and now."""
        began = time.perf_counter()
        try:
            starts = self.decode(run)
        except Exception as error:
            self.fail(run.ticket, error)
        else:
            self.figures.busy(time.perf_counter() - began)
            self.receive(run.strand, starts)

    def receive(self, strand: Strand, starts: list[Start]) -> None:
        """A drawing asks for more rows, or has its image. The rows let others pass, so that nobody
        waits for all windows of a large picture."""
        self.parked.extend((strand, start) for start in starts)
        if strand.image is None:
            return
        ticket = strand.ticket
        ticket.give(strand.image_index, strand.image)
        if len(ticket.images) == ticket.cost.images and ticket.began is not None:
            self.figures.drawn(time.monotonic() - ticket.began)

    def preview(self, run: Run) -> None:
        """Show how far an image is, if it is time for one of the previews that were asked for."""
        strand, ticket, tokens = run.strand, run.ticket, run.row.tokens
        step = strand.steps_done
        number = strand.due_preview()
        if number is None or ticket.over:
            return

        def show() -> None:
            try:
                with torch.inference_mode():
                    image = strand.group.pipeline.preview(tokens, ticket.weighed.request.size)
                ticket.tell(Preview(strand.image_index, number, step, image))
            except Exception as error:
                log.warning("a preview has failed", exc_info=error)
                ticket.fail(error)

        if self._finisher is None:
            show()
        else:
            self._finisher.submit(show)

    def leave(self, run: Run) -> None:
        """Take a row out of the batch."""
        self.running = [other for other in self.running if other is not run]

    def fail(self, ticket: Ticket, error: BaseException) -> None:
        """Tell those who wait for a ticket, unless all work of this worker would fail now."""
        if _is_of_device(error):
            raise DeviceError("the device has failed") from error
        log.warning("a request has failed", exc_info=error)
        ticket.fail(error)


def _is_out_of_memory(error: Exception) -> bool:
    """A device, or the CPU's allocator, had no more."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _is_of_device(error: BaseException) -> bool:
    """Whether the fault is the device's and not the row's: CUDA answers every call after such an
    error with the same error."""
    return isinstance(error, DeviceError | torch.AcceleratorError) or (
        isinstance(error, RuntimeError)
        and not isinstance(error, torch.OutOfMemoryError)
        and "CUDA error" in str(error)
    )
