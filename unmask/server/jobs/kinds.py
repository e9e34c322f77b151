"""What the runner asks of a kind of job: how a stored form is drawn, and what is kept of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from unmask.server.jobs.job import Job


class Report(Protocol):
    """Hears how far a job is."""

    def __call__(self, share: float, preview: Callable[[], bytes] | None = None) -> None:
        """So much is done; ``preview`` makes the file that shows it, if anybody wants to see it."""
        ...


@dataclass(frozen=True)
class Preview:
    """How a job looks part of the way; ``number`` counts its previews from 0."""

    number: int
    encode: Callable[[], bytes]  # makes its file; it may take a while


@dataclass(frozen=True)
class ResultFile:
    """A file to be kept: ``name`` is the server's own choice, and a plain file name."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Result:
    """What came of a job: JSON that its kind understands, and files."""

    answer: Mapping[str, Any]
    files: tuple[ResultFile, ...]


class Kind(Protocol):
    """One kind of job. A kind is registered under its name in ``unmask/server/http/kinds.py``."""

    async def draw(self, job: Job, uploads: Mapping[str, bytes], report: Report) -> Result:
        """The result of a job. It must be the same each time, for a run that a killed process had
        is begun anew. ``report`` hears the share that is done, in the event loop.

        QueueFullError puts the job off, UnavailableError too, but once only; any other error ends
        it. Cancelling the wait must stop the work.
        """
        ...

    def describe(self, job: Job, urls: Sequence[str]) -> Mapping[str, Any]:
        """What a sender is told of a completed job, as JSON: ``urls`` are those of its files."""
        ...
