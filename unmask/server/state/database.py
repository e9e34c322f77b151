"""The one place that knows which database holds the tables, and in what they differ."""

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.sql.dml import ReturningInsert

from unmask.errors import ConfigError, UnavailableError
from unmask.server.state.migrations import upgrade
from unmask.server.state.tables import metadata

log = logging.getLogger(__name__)

FILE_NAME = "jobs.sqlite"
BUSY_SECONDS = 30  # that a change waits for those of other processes
CONNECT_SECONDS = 5
MOST_CONNECTIONS = 40  # as many as threads that a server's event loop may wait for
FORMS = "postgresql://USER:PASSWORD@HOST/NAME"
VARIABLE = "UNMASK_DATABASE"
MIGRATION = "migration"


def open_folder(folder: Path) -> Engine:
    """The database in a state folder, which is made if there is none. ConfigError if it cannot be,
    or is that of another version."""
    path = folder / FILE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS},
        hide_parameters=True,  # errors are logged, and prompts are not
    )
    event.listen(engine, "connect", _set_up)
    try:
        return _prepare(engine, str(path))
    except UnavailableError as error:
        raise ConfigError(f"{path}: it cannot be used: {cause(error)}") from None


def open_url(text: str) -> Engine:
    """The database at an address, its tables made or taken forward. ConfigError for what is no such
    address and for a database of another version; UnavailableError if it cannot be reached now."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError(f"{VARIABLE}: give {FORMS}") from None
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise ConfigError(f"{VARIABLE} {url.drivername[:40]!r}: give {FORMS}")
    return _prepare(_postgres(url), VARIABLE)


@contextmanager
def changing(engine: Engine) -> Iterator[Connection]:
    """One transaction that changes something, all of it or nothing. SQLite must be told so at its
    beginning: one that reads first and then writes is refused if another wrote in between."""
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def alone(connection: Connection, purpose: str) -> None:
    """Wait until no other transaction is at work on the same purpose, and keep others out until the
    end of this one. In SQLite each that changes something is alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(purpose, 0))))


def upsert(
    connection: Connection,
    table: Table,
    values: Mapping[str, Any],
    changes: Mapping[str, Any],
    where: Any = None,
) -> bool:
    """Add a row; if there is one of the same primary key, change that one, where it is as it must
    be. False if it is not, so that nothing was done."""
    key = list(table.primary_key.columns)
    conflict: dict[str, Any] = {"index_elements": key, "set_": changes, "where": where}
    change: ReturningInsert[Any]
    if connection.dialect.name == "sqlite":
        row = sqlite.insert(table).values(values)
        change = row.on_conflict_do_update(**conflict).returning(*key)
    else:
        other = postgresql.insert(table).values(values)
        change = other.on_conflict_do_update(**conflict).returning(*key)
    return connection.execute(change).one_or_none() is not None


def clock(connection: Connection) -> float:
    """Seconds since 1970, on the same clock for all who share the database."""
    if connection.dialect.name == "postgresql":
        now = select(func.extract("epoch", func.clock_timestamp()))
        return float(connection.execute(now).scalar_one())
    return time.time()


def cause(error: Exception) -> str:
    """What the library said that could not reach it, in a line."""
    said = str(getattr(error.__cause__, "orig", None) or error.__cause__ or error)
    return next(iter(said.strip().splitlines()), "")


def _postgres(url: URL) -> Engine:
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_size=4,
            max_overflow=MOST_CONNECTIONS - 4,
            pool_pre_ping=True,  # the database may have been started anew
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "tcp_user_timeout": CONNECT_SECONDS * 1000,
                "application_name": "unmask",
                "options": f"-c statement_timeout={BUSY_SECONDS}s -c lock_timeout={BUSY_SECONDS}s",
                "prepare_threshold": None,  # a pooler between may give each query another session
            },
        )
    except ModuleNotFoundError:
        raise ConfigError(
            f"{VARIABLE}: install the extra: pip install 'unmask[postgres]'"
        ) from None
    return engine


def _prepare(engine: Engine, name: str) -> Engine:
    """The engine, its tables as they must be; two who start at once do it one after another."""
    event.listen(engine, "handle_error", _translate)
    with ExitStack() as undo:
        undo.callback(engine.dispose)
        try:
            with changing(engine) as connection:
                alone(connection, MIGRATION)
                upgrade(connection)
                _check(connection)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        except DBAPIError as error:
            raise ConfigError(f"{name}: it cannot be used: {error.orig}") from None
        undo.pop_all()
    return engine


def _translate(context: ExceptionContext) -> None:
    """What has nothing to do with what was asked for is an UnavailableError."""
    error, original = context.sqlalchemy_exception, context.original_exception
    # SQLite has one class for what is wrong outside, and for wrong statements.
    is_ours = getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    if isinstance(error, OperationalError | InterfaceError) and not is_ours:
        log.warning("the database: %s", original)
        raise UnavailableError("the database cannot be reached") from error


def _set_up(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where ``changing`` says so
    connection.execute("PRAGMA auto_vacuum = FULL")  # what is removed makes the file smaller
    _begin_log(connection)
    connection.execute("PRAGMA synchronous = FULL")  # what was accepted outlives a loss of power


def _begin_log(connection: Any) -> None:
    """Have changes written to a log beside the file. Of those who do so at once with a new file
    SQLite refuses some at once, without waiting for the others."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _check(connection: Connection) -> None:
    there = inspect(connection)
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in there.get_columns(table.name)}
        if columns != {column.name for column in table.columns}:
            raise ConfigError("another version of Unmask made it; move it away")
