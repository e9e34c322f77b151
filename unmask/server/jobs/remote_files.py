"""The files of jobs in a store of objects, such as S3, by fsspec."""

import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from unmask.errors import ConfigError, UnavailableError
from unmask.server.jobs.files import (
    PROBE,
    RESULTS,
    UPLOADS,
    YOUNG_SECONDS,
    FolderFiles,
    JobFiles,
    StoredFile,
    note_of,
)
from unmask.server.jobs.job import FileNote, Job
from unmask.server.jobs.kinds import ResultFile
from unmask.settings import Settings

log = logging.getLogger(__name__)

VARIABLE = "UNMASK_STORE"
BLOCK_BYTES = 1 << 18  # that one range of a file asks of the store at a time
OPTIONS: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}


def open_files(settings: Settings) -> JobFiles:
    """Where the settings say that files are. ConfigError for what cannot be such a place."""
    if settings.store is None:
        return FolderFiles(settings.state_folder / "files")
    scheme, separator, _ = settings.store.partition("://")
    if not separator:
        return FolderFiles(Path(settings.store))
    if scheme != "s3":
        raise ConfigError(f"{VARIABLE} {scheme[:40]!r}: give a folder, or s3://BUCKET/PREFIX")
    try:
        system, root = url_to_fs(settings.store, **OPTIONS)
    except ImportError:
        raise ConfigError(f"{VARIABLE}: install the extra: pip install 'unmask[s3]'") from None
    return RemoteFiles(system, root)


class RemoteFiles:
    """Objects below a root. The store itself publishes an object as a whole, or not at all."""

    def __init__(self, system: AbstractFileSystem, root: str) -> None:
        self._system, self._root = system, root.rstrip("/")

    def check(self) -> None:
        self._write({PROBE: b""})

    def keep_uploads(self, job_id: str, uploads: Mapping[str, bytes]) -> None:
        self._write(uploads, job_id, UPLOADS)

    def uploads(self, job_id: str) -> dict[str, bytes]:
        with _reached(), suppress(FileNotFoundError):
            paths = self._system.find(self._path(job_id, UPLOADS))
            return {path.rpartition("/")[2]: self._system.cat_file(path) for path in sorted(paths)}
        return {}

    def keep_results(self, job_id: str, files: Sequence[ResultFile]) -> tuple[FileNote, ...]:
        self._write({file.name: file.data for file in files}, job_id, RESULTS)
        return tuple(FileNote(file.name, file.media_type, len(file.data)) for file in files)

    def result(self, job: Job, name: str) -> StoredFile | None:
        note = note_of(job, name)
        if note is None:
            return None
        path = self._path(job.id, RESULTS, name)
        with _reached(), suppress(FileNotFoundError):
            size, ended = int(self._system.info(path)["size"]), int(job.ended or 0)
            about = os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, size, ended, ended, ended))
            return StoredFile(note, path, about, lambda: self._open(path))
        return None

    def drop_uploads(self, job_id: str) -> None:
        self._remove(self._path(job_id, UPLOADS))

    def drop(self, job_id: str) -> None:
        self._remove(self._path(job_id))

    def ids(self) -> Iterator[str]:
        newest: dict[str, float] = {}
        with _reached(), suppress(FileNotFoundError):
            for path, info in self._system.find(self._root, detail=True).items():
                job_id, separator, _ = path.removeprefix(f"{self._root}/").partition("/")
                made = info.get("LastModified") or info["created"]
                if isinstance(made, datetime):  # of some stores it is seconds already
                    made = made.timestamp()
                if separator:
                    newest[job_id] = max(newest.get(job_id, 0.0), made)
        return (name for name, made in newest.items() if time.time() - made > YOUNG_SECONDS)

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _open(self, path: str) -> IO[bytes]:
        with _reached():
            return cast(IO[bytes], self._system.open(path, "rb", block_size=BLOCK_BYTES))

    def _write(self, files: Mapping[str, bytes], *above: str) -> None:
        with _reached():
            for name, data in files.items():
                self._system.pipe_file(self._path(*above, name), data)

    def _remove(self, path: str) -> None:
        """What cannot be removed now is when the store is tidied."""
        with suppress(FileNotFoundError, UnavailableError), _reached():
            self._system.rm(path, recursive=True)


@contextmanager
def _reached() -> Iterator[None]:
    """A store has errors of many kinds: all but that a file is not there mean that it is away."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        log.warning("the store: %s", error)
        raise UnavailableError("the store of files cannot be reached") from error
