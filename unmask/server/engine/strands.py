"""What a worker has in hand: images that are being drawn, and the rows stepped for them."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from unmask.pipeline import Pipeline, Start
from unmask.sampling.backbone import Prefix
from unmask.sampling.padding import Padded
from unmask.sampling.step import Row
from unmask.server.engine.tickets import Ticket


class Group:
    """All that a worker keeps of a model while it has rows of it."""

    def __init__(self, key: str, pipeline: Pipeline, pad: bool) -> None:
        self.key, self.pipeline = key, pipeline
        self.backbone: Padded[Prefix] = Padded(pipeline.backbone, pad)
        self._members: list[Strand] = []
        self._joined: Prefix | None = None

    def prefix(self, runs: Sequence["Run"]) -> Prefix:
        """The conditions of rows, then their nulls; joined anew when others come or go."""
        members = [run.strand for run in runs]
        if self._joined is None or self._members != members:
            joined = type(members[0].prefix).join([strand.prefix for strand in members])
            order = torch.arange(2 * len(members)).view(-1, 2).T.flatten()
            self._members, self._joined = members, joined.select(order.to(self.pipeline.device))
        return self._joined


class Strand:
    """One image of a ticket, and what draws it. ``prefix`` is of the condition and the null."""

    def __init__(self, ticket: Ticket, image_index: int, group: Group, prefix: Prefix) -> None:
        self.ticket, self.image_index = ticket, image_index
        self.group, self.prefix = group, prefix
        self.image: Image.Image | None = None  # when it is done
        self.steps_done = 0
        self._shown = 0  # previews
        self._drawing: Generator[Start, Tensor, Image.Image] = group.pipeline.drawing(
            ticket.request, image_index
        )

    def begin(self) -> list["Run"]:
        """The first rows that the image needs."""
        return self._resumed(None)

    def finish(self, tokens: Tensor) -> list["Run"]:
        """The rows that it needs next; none if that was the last, then it has its ``image``."""
        return self._resumed(tokens)

    def due_preview(self) -> int | None:
        """The number of the preview that it is time for, if it is."""
        wanted = self.ticket.previews
        due = self.steps_done * (wanted + 1) // max(self.ticket.cost.chain, 1)
        if not self._shown < due <= wanted:
            return None
        number, self._shown = self._shown, due
        return number

    def _resumed(self, tokens: Tensor | None) -> list["Run"]:
        with torch.inference_mode():
            try:
                drawing = self._drawing
                return [Run.of(self, next(drawing) if tokens is None else drawing.send(tokens))]
            except StopIteration as end:
                self.image = end.value
                return []


@dataclass(eq=False)
class Run:
    """A row that is being stepped for an image, and its tokens so far."""

    strand: Strand
    tokens: Tensor
    row: Row

    @classmethod
    def of(cls, strand: Strand, start: Start) -> "Run":
        """What a drawing asks for, on a fresh row."""
        return cls(strand, start.tokens, Row.begin(start.plan, start.unknown))

    @property
    def ticket(self) -> Ticket:
        """The ticket of its image."""
        return self.strand.ticket

    def finish(self) -> list["Run"]:
        """All steps are done: the rows that the image needs next."""
        return self.strand.finish(self.tokens)
