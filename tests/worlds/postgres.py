"""A real PostgreSQL of this machine, started for the tests and gone after them."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USER = "postgres"
SECONDS = 30.0
CHOICES = ("--auth=trust", "--encoding=UTF8", "--no-locale")
# Nothing in here outlives the tests, so nothing must outlive a loss of power.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "16MB",
    "max_wal_size": "128MB",
}


class Cluster:
    """A server of databases, on a socket in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, name: str) -> str:
        """Of a database."""
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def make(self) -> str:
        """The address of a new database without tables."""
        import psycopg

        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.address(name)

    def start(self) -> None:
        """Answer, from now on."""
        import psycopg

        options = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
        where = ["-D", str(self.folder / "data"), "-k", str(self.folder)]
        self._process = subprocess.Popen(
            [_program("postgres"), *where, *options], stderr=subprocess.DEVNULL, **_as_somebody()
        )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                psycopg.connect(self.address("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.05)

    def stop(self) -> None:
        """Answer no more; whoever is connected is cut off."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(SECONDS)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster; skips where there is no PostgreSQL, or nobody who may run it."""
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    program = _program("initdb")
    somebody = _as_somebody()
    folder = Path(tempfile.mkdtemp(prefix="unmask-postgres-"))
    try:
        if somebody:
            shutil.chown(folder, somebody["user"], somebody["group"])
        subprocess.run(
            [program, "-D", str(folder / "data"), "-U", USER, "--no-sync", *CHOICES],
            check=True,
            stdout=subprocess.DEVNULL,
            **somebody,
        )
        made = Cluster(folder)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))  # where Debian has them
    path = shutil.which(name) or (str(found[-1]) if found else None)
    if path is None:
        pytest.skip(f"needs PostgreSQL: there is no {name}")
    return path


def _as_somebody() -> dict[str, Any]:
    """Whom it runs as, for it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in (USER, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}
    pytest.skip("needs somebody but root to run PostgreSQL")
