"""The events of a stream for those who watch it: its place in the queue, and the trace of a step.

A trace is a small thing beside a preview: two bytes a cell, before base 64.
"""

import base64
from typing import Any, Literal

from pydantic import BaseModel, Field

from unmask.errors import RequestError
from unmask.sampling.trace import Trace
from unmask.server.engine.costs import Cost
from unmask.server.engine.tickets import Progress, Watched

MAX_TRACED = 1 << 22  # cells times steps of one request: twice as many bytes


class QueuedEvent(BaseModel):
    """The first event of a stream with a trace: the request was taken in."""

    type: Literal["image_generation.queued", "image_edit.queued"]
    ahead: int = Field(description="requests that waited then, and have their turn first")
    steps: int = Field(description="of all windows of all images together, if none ends early")


class TraceEvent(BaseModel):
    """What a step did to each cell of a window, in the order of the grid, and how sure the model
    was."""

    type: Literal["image_generation.trace", "image_edit.trace"]
    image_index: int
    step: int = Field(description="of the window: how many are done, 1 after the first")
    steps: int = Field(description="of the window, if it does not end early")
    passes: float = Field(description="of the backbone, what the step cost in full ones")
    window: int = Field(description="its number, from 0")
    windows: int = Field(description="that the image may take")
    corner: tuple[int, int] = Field(description="row and column of its first cell in the picture")
    grid: tuple[int, ...] = Field(description="cells of the window, slowest axis first")
    cells: str = Field(
        description="a sign a cell: # known, . masked still, = revealed before, + revealed by this "
        "step, - masked again by it"
    )
    sure: str = Field(
        description="base64 of a byte a cell: 255 times the probability that the model gave the "
        "value when it was last drawn there, at temperature 1; of a masked cell, the value that it "
        "would have had"
    )


def check_traced(cost: Cost) -> None:
    """RequestError for a request whose traces would be too many."""
    cells = cost.drawn_tokens * cost.steps
    if cells > MAX_TRACED:
        raise RequestError(
            f"trace: {cost.drawn_tokens} cells in {cost.steps} steps are {cells} to tell of; the "
            f"bound is {MAX_TRACED}: ask for fewer steps or images, or for no trace",
            "trace",
        )


def queued(kind: str, progress: Progress) -> QueuedEvent:
    """The event of a request that was taken in."""
    values: dict[str, Any] = {"type": f"{kind}.queued"}
    return QueuedEvent(**values, ahead=progress.ahead, steps=progress.total)


def traced(kind: str, event: Watched) -> TraceEvent:
    """The event of a step."""
    values: dict[str, Any] = {"type": f"{kind}.trace"}
    trace: Trace = event.trace
    return TraceEvent(
        **values,
        image_index=event.image_index,
        step=event.step,
        steps=event.steps,
        passes=round(event.passes, 4),
        window=event.part,
        windows=event.parts,
        corner=event.corner,
        grid=event.grid,
        cells=trace.signs,
        sure=base64.b64encode(trace.sure).decode(),
    )
