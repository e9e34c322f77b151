"""What a job is, to whoever asks for one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
UNENDED: tuple[Status, ...] = ("queued", "in_progress")


@dataclass(frozen=True)
class Fault:
    """Why a job failed, as an answer tells it: its status, and what is in its envelope."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class FileNote:
    """What is known of a result's file. The server chose its name, so it may be in a path."""

    name: str
    media_type: str
    bytes: int


@dataclass(frozen=True)
class Job:
    """A job as it was when it was read. Times are seconds since 1970, of this machine's clock."""

    number: int  # later ones have higher ones
    id: str
    owner: str  # the name of its Sender
    kind: str
    form: Mapping[str, Any]  # JSON that the kind understands
    status: Status
    progress: int  # percent; 100 only once every file of the result is on disk
    created: float
    due: float  # not before then
    started: float | None  # the first time
    ended: float | None
    expires: float | None  # known when it has ended
    claimed_by: str | None  # the runner at work on it
    attempts: int  # runs that were begun, but those that were given back untried
    fault: Fault | None
    answer: Mapping[str, Any] | None  # of a completed one: JSON that the kind understands
    files: tuple[FileNote, ...]
    secret: str  # whoever knows it may read the files
    bytes: int  # that it takes in the store
    key: str | None  # the sender's own name for the request
    digest: str  # of the request: another one may not have the same key

    @property
    def has_ended(self) -> bool:
        """Nothing about it will change any more, but that it is removed."""
        return self.status not in UNENDED


@dataclass(frozen=True)
class NewJob:
    """A request to be kept. Everything in it was checked."""

    owner: str
    kind: str
    form: Mapping[str, Any]  # JSON that the kind understands
    uploads: Mapping[str, bytes]  # by names that the server chose
    key: str | None = None
    digest: str = ""


@dataclass(frozen=True)
class Page:
    """A part of a list of jobs; ``has_more``: others follow."""

    jobs: tuple[Job, ...]
    has_more: bool
