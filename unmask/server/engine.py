"""What the routes know of the thing that draws: a model to ask and a place to hand requests in."""

from typing import Protocol

from unmask.errors import UnavailableError
from unmask.pipeline import Generated, Pipeline, Request


class QueueFullError(UnavailableError):
    """As many requests wait as may wait; ``retry_after`` says in how many seconds one has left."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} requests are waiting already: try again in {retry_after} s")
        self.retry_after = retry_after


class Engine(Protocol):
    """Draws requests, one at a time or many together; all of it is called from the event loop."""

    def start(self) -> None:
        """Begin to load the model, and return at once."""

    async def stop(self) -> None:
        """Fail whatever still waits, and return when no more work is done."""

    def model(self) -> Pipeline:
        """The loaded model, to be asked for ``info`` and ``request`` only.

        Raises UnavailableError, which says why, whenever ``submit`` would not take a request:
        so an engine is ready exactly when this returns.
        """

    async def submit(self, request: Request) -> Generated:
        """The images of a request; cancelling the wait gives the request up.

        Raises QueueFullError at once when too many wait, UnavailableError when the engine is not
        ready or stops before the request is done, and whatever drawing it raised.
        """
