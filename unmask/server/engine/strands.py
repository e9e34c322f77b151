"""What a worker has in hand: images that are being drawn, and the rows stepped for them."""

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from unmask.pipeline import Drawn, Pipeline, Start
from unmask.sampling.backbone import Pair
from unmask.sampling.padding import Padded
from unmask.sampling.row import Batch, Row
from unmask.sampling.trace import trace
from unmask.server.engine.tickets import Ticket, Watched


class Group:
    """All that a worker keeps of a model while it has rows of it."""

    def __init__(self, key: str, pipeline: Pipeline, pad: bool) -> None:
        self.key, self.pipeline = key, pipeline
        self.backbone = Padded(pipeline.backbone, pad)
        self._batches: list[Batch] = []  # those of the last steps

    def batch(self, runs: Sequence["Run"]) -> Batch:
        """The rows as a batch, made anew when one has come or gone."""
        rows = [run.row for run in runs]
        for batch in self._batches:
            if len(batch.rows) == len(rows) and all(map(operator.is_, batch.rows, rows)):
                return batch
        # A row is in one batch alone: what another holds of it would be a step behind.
        stale = {id(row) for row in rows}
        self._batches = [
            batch for batch in self._batches if not any(id(row) in stale for row in batch.rows)
        ]
        pair = Pair.join([run.pair for run in runs])
        self._batches.append(Batch(self.backbone, rows, pair))
        return self._batches[-1]

    def forget_batches(self, running: Sequence["Run"] = ()) -> None:
        """Let go of batches but for those whose rows are all running."""
        rows = {id(run.row) for run in running}
        self._batches = [
            batch for batch in self._batches if all(id(row) in rows for row in batch.rows)
        ]


class Strand:
    """One image of a ticket, and what draws it. ``pair`` is its condition and the null."""

    def __init__(self, ticket: Ticket, image_index: int, group: Group, pair: Pair) -> None:
        self.ticket, self.image_index = ticket, image_index
        self.group, self.pair = group, pair
        self.steps_done = 0
        self._shown = 0  # previews
        self._drawing = group.pipeline.drawing(ticket.weighed.prepared, image_index)

    @property
    def image(self) -> Drawn | None:
        """The image, once it is done."""
        return self._drawing.image

    def start(self) -> list[Start]:
        """What can be run first."""
        with torch.inference_mode():
            return self._drawing.start()

    def finish(self, run: "Run") -> list[Start]:
        """What can be run now that all steps of a run are done."""
        with torch.inference_mode():
            return self._drawing.finish(run.start, run.row.tokens)

    def due_preview(self) -> int | None:
        """The number of the preview that it is time for, if it is."""
        wanted = self.ticket.previews
        due = self.steps_done * (wanted + 1) // self.ticket.weighed.cost.image_steps
        if not self._shown < due <= wanted:
            return None
        number, self._shown = self._shown, due
        return number


@dataclass(eq=False)
class Run:
    """A row that is being stepped for an image, and what its drawing started it with."""

    strand: Strand
    start: Start
    row: Row
    turn: int = 0  # at which it was stepped last
    began: float = field(default_factory=time.perf_counter)

    @property
    def kind(self) -> object:
        """Rows that agree in it can be stepped in one batch."""
        return id(self.strand.group), self.start.plan.grid, self.pair.both.row_shapes

    @classmethod
    def of(cls, strand: Strand, start: Start) -> "Run":
        """A fresh row."""
        watched = strand.ticket.watched
        return cls(strand, start, Row.begin(start.plan, start.tokens, start.unknown, watched))

    @property
    def pair(self) -> Pair:
        """The condition of its row and the null."""
        return self.start.pair or self.strand.pair

    @property
    def ticket(self) -> Ticket:
        """The ticket of its image."""
        return self.strand.ticket

    def tell(self, before: Row) -> None:
        """Tell whoever watches what the step has done to the row, which was so before."""
        row, start = self.row, self.start
        if row.sure is None:
            return
        mask_id = self.strand.group.pipeline.backbone.mask_id
        self.ticket.tell(
            Watched(
                self.strand.image_index,
                step=row.step,
                steps=len(row.plan.steps),
                passes=row.plan.passes_by_step[before.step],
                part=start.part,
                parts=start.parts,
                corner=start.corner,
                grid=row.plan.grid,
                trace=trace(before.tokens, row.tokens, row.unknown, row.sure, mask_id),
            )
        )
