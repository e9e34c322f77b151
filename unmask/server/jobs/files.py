"""The files of jobs, in one folder: what came with a request, and what came of it."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from unmask.server.jobs.job import FileNote, Job
from unmask.server.jobs.kinds import ResultFile

UPLOADS, RESULTS = "uploads", "results"
PARTIAL = ".partial"
YOUNG_SECONDS = 600.0  # for so long a folder may have no row yet


class JobFiles:
    """A folder a job. Its methods block. Names are those that the server chose."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep_uploads(self, job_id: str, uploads: Mapping[str, bytes]) -> None:
        """Put what came with a request on disk, for good: it is there after a loss of power."""
        if uploads:
            self._write(self.folder / job_id / UPLOADS, uploads)

    def uploads(self, job_id: str) -> dict[str, bytes]:
        """What came with a request, by name."""
        folder = self.folder / job_id / UPLOADS
        if not folder.is_dir():
            return {}
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}

    def keep_results(self, job_id: str, files: Sequence[ResultFile]) -> tuple[FileNote, ...]:
        """Put what came of a job on disk, for good, over what an earlier run may have left."""
        self._write(self.folder / job_id / RESULTS, {file.name: file.data for file in files})
        return tuple(FileNote(file.name, file.media_type, len(file.data)) for file in files)

    def result(self, job: Job, name: str) -> tuple[Path, FileNote] | None:
        """Where a file of a completed job is; None if it has none of this name."""
        for note in job.files:
            if note.name == name:
                return self.folder / job.id / RESULTS / name, note
        return None

    def drop_uploads(self, job_id: str) -> None:
        """Remove what came with the request."""
        shutil.rmtree(self.folder / job_id / UPLOADS, ignore_errors=True)

    def drop(self, job_id: str) -> None:
        """Remove all files of a job."""
        shutil.rmtree(self.folder / job_id, ignore_errors=True)

    def ids(self) -> Iterator[str]:
        """The jobs that have folders which are not brand new."""
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > YOUNG_SECONDS:
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
