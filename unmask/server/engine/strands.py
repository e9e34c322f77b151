"""What a worker has in hand: images that are being drawn, and the rows stepped for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from unmask.pipeline import Pipeline, Start
from unmask.sampling.backbone import Pair
from unmask.sampling.padding import Padded
from unmask.sampling.row import Batch, Row
from unmask.server.engine.tickets import Ticket


class Group:
    """All that a worker keeps of a model while it has rows of it."""

    def __init__(self, key: str, pipeline: Pipeline, pad: bool) -> None:
        self.key, self.pipeline = key, pipeline
        self.backbone = Padded(pipeline.backbone, pad)
        self._batches: dict[tuple[int, ...], Batch] = {}  # by grid, for a batch has one

    def batch(self, runs: Sequence["Run"]) -> Batch:
        """The rows as a batch, made anew when one has come or gone."""
        rows = [run.row for run in runs]
        grid = rows[0].plan.grid
        batch = self._batches.get(grid)
        if batch is None or len(batch.rows) != len(rows) or not all(map(_same, batch.rows, rows)):
            pair = Pair.join([run.strand.pair for run in runs])
            batch = self._batches[grid] = Batch(self.backbone, rows, pair)
        return batch

    def forget_batches(self) -> None:
        """Let go of batches, of which one may be half a step further than its rows."""
        self._batches.clear()


class Strand:
    """One image of a ticket, and what draws it. ``pair`` is its condition and the null."""

    def __init__(self, ticket: Ticket, image_index: int, group: Group, pair: Pair) -> None:
        self.ticket, self.image_index = ticket, image_index
        self.group, self.pair = group, pair
        self.steps_done = 0
        self._shown = 0  # previews
        self._drawing = group.pipeline.drawing(ticket.weighed.prepared, image_index)

    @property
    def image(self) -> Image.Image | None:
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

    @classmethod
    def of(cls, strand: Strand, start: Start) -> "Run":
        """A fresh row."""
        return cls(strand, start, Row.begin(start.plan, start.tokens, start.unknown))

    @property
    def ticket(self) -> Ticket:
        """The ticket of its image."""
        return self.strand.ticket


def _same(one: object, other: object) -> bool:
    return one is other
