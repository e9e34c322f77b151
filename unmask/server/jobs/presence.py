"""Who is alive: a runner holds a lock on a file of its own, which the system frees when the process
ends, however that happens. So the processes of one machine know at once that one of them is gone;
for several machines a job would need a lease beside its ``claimed_by``."""

import fcntl
import os
import uuid
from pathlib import Path


class Presence:
    """The sign that this runner lives."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.runner = uuid.uuid4().hex
        self._folder, self._path = folder, folder / self.runner
        while True:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError:  # a file system may have no locks
                self.close()
                raise
            if self._path.exists():
                break
            os.close(self._file)  # before it was locked, another took it for a dead one's

    def is_gone(self, runner: str) -> bool:
        """Whether another runner lives no more; then its sign is taken away."""
        path = self._folder / runner
        if runner == self.runner:
            return False
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(file)

    def clear(self) -> None:
        """Take away what others left who are gone."""
        for path in self._folder.iterdir():
            self.is_gone(path.name)

    def close(self) -> None:
        """Live no more."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)
