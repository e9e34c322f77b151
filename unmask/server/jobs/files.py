"""The files of jobs, in one folder: what came with a request, and what came of it."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from unmask.server.jobs.job import FileNote, Job
from unmask.server.jobs.kinds import ResultFile

UPLOADS, RESULTS = "uploads", "results"
PARTIAL = ".partial"
PROBE = ".unmask"
YOUNG_SECONDS = 600.0  # for so long a folder may have no row yet


@dataclass(frozen=True)
class StoredFile:
    """A file that is there. ``open`` blocks, and gives what can be read at any place."""

    note: FileNote
    path: str  # what it is called where it is kept
    stat: os.stat_result
    open: Callable[[], IO[bytes]]


class JobFiles(Protocol):
    """Where files are kept: a folder a job, by names that the server chose. All of it blocks, and
    raises OSError or UnavailableError where the files cannot be reached."""

    def check(self) -> None:
        """That files can be kept."""
        ...

    def keep_uploads(self, job_id: str, uploads: Mapping[str, bytes]) -> None:
        """Keep what came with a request, for good: it is there after a loss of power."""
        ...

    def uploads(self, job_id: str) -> dict[str, bytes]:
        """What came with a request, by name."""
        ...

    def keep_results(self, job_id: str, files: Sequence[ResultFile]) -> tuple[FileNote, ...]:
        """Keep what came of a job, for good, over what an earlier run may have left. Who reads a
        file sees all of it, or none."""
        ...

    def result(self, job: Job, name: str) -> StoredFile | None:
        """A file of a completed job; None if it has none of this name, or no more."""
        ...

    def drop_uploads(self, job_id: str) -> None:
        """Remove what came with the request."""
        ...

    def drop(self, job_id: str) -> None:
        """Remove all files of a job."""
        ...

    def ids(self) -> Iterator[str]:
        """The jobs that have folders which are not brand new."""
        ...


def note_of(job: Job, name: str) -> FileNote | None:
    """What is known of a file of a completed job."""
    return next((note for note in job.files if note.name == name), None)


class FolderFiles:
    """Files in a folder of this machine, or in one that several share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        self._write(self.folder, {PROBE: b""})

    def keep_uploads(self, job_id: str, uploads: Mapping[str, bytes]) -> None:
        if uploads:
            self._write(self.folder / job_id / UPLOADS, uploads)

    def uploads(self, job_id: str) -> dict[str, bytes]:
        folder = self.folder / job_id / UPLOADS
        if not folder.is_dir():
            return {}
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}

    def keep_results(self, job_id: str, files: Sequence[ResultFile]) -> tuple[FileNote, ...]:
        self._write(self.folder / job_id / RESULTS, {file.name: file.data for file in files})
        return tuple(FileNote(file.name, file.media_type, len(file.data)) for file in files)

    def result(self, job: Job, name: str) -> StoredFile | None:
        note = note_of(job, name)
        if note is None:
            return None
        path = self.folder / job.id / RESULTS / name
        try:
            return StoredFile(note, str(path), path.stat(), lambda: path.open("rb"))
        except FileNotFoundError:
            return None

    def drop_uploads(self, job_id: str) -> None:
        shutil.rmtree(self.folder / job_id / UPLOADS, ignore_errors=True)

    def drop(self, job_id: str) -> None:
        shutil.rmtree(self.folder / job_id, ignore_errors=True)

    def ids(self) -> Iterator[str]:
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                age = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if age > YOUNG_SECONDS and entry.name != PROBE:
                    yield entry.name

    def _write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, data in files.items():
            partial = folder / f"{name}{PARTIAL}"
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(folder / name)
        for above in (folder, folder.parent, self.folder, self.folder.parent):
            _sync(above)


def _sync(folder: Path) -> None:
    """Make the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
