"""The tables, and the one place that knows which database holds them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.exc import DBAPIError

from unmask.errors import ConfigError

FILE_NAME = "jobs.sqlite"
BUSY_SECONDS = 30  # that a change waits for those of other processes

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(255), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("form", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("expires", Float),
    Column("claimed_by", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("fault", Text),
    Column("answer", Text),
    Column("files", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("key", String(255)),
    Column("digest", String(64), nullable=False),
    UniqueConstraint("owner", "key"),
    Index("jobs_by_status", "status", "number"),
    Index("jobs_by_owner", "owner", "number"),
    sqlite_autoincrement=True,  # a number that was removed is never given again
)
webhooks = Table(
    "webhooks",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", String(128), nullable=False),
    Column("created", Float, nullable=False),
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("body", Text, nullable=False),
    Column("due", Float, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
)


def open_database(folder: Path) -> Engine:
    """The database in a state folder, which is made if there is none. ConfigError if it cannot be,
    or is that of another version."""
    path = folder / FILE_NAME
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS},
        hide_parameters=True,  # errors are logged, and prompts are not
    )
    event.listen(engine, "connect", _set_up)
    with ExitStack() as undo:
        undo.callback(engine.dispose)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            metadata.create_all(engine)
            _check(engine, path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except DBAPIError as error:
            raise ConfigError(f"{path}: it cannot be used: {error.orig}") from None
        undo.pop_all()
    return engine


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """One transaction that changes something, all of it or nothing. SQLite must be told so at its
    beginning: one that reads first and then writes is refused if another wrote in between."""
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _set_up(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where ``changing`` says so
    for pragma in (
        "auto_vacuum = FULL",  # what is removed makes the file smaller
        "journal_mode = WAL",
        "synchronous = FULL",  # what was accepted outlives a loss of power
    ):
        connection.execute(f"PRAGMA {pragma}")


def _check(engine: Engine, path: Path) -> None:
    there = inspect(engine)
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in there.get_columns(table.name)}
        if columns != {column.name for column in table.columns}:
            raise ConfigError(f"{path}: another version of Unmask made it; move it away")
