"""Every schema that there ever was is taken to that of now, and its rows are kept."""

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine

from tests.worlds.jobs import OpenEngine, job_store
from unmask.errors import ConfigError
from unmask.server.jobs.webhooks import Hooks
from unmask.server.state.database import FILE_NAME, open_folder
from unmask.server.state.tables import metadata

BEFORE = Path(__file__).with_name("before_revisions.sql")  # dumped from what that code had made


def revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def test_the_steps_lead_to_the_tables_of_the_code(open_engine: OpenEngine) -> None:
    with open_engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_database_from_before_there_were_revisions_goes_forward(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.executescript(BEFORE.read_text())
    database.close()
    engine = open_folder(tmp_path)
    assert revision(engine) == "0002"
    store = job_store(engine)
    assert store.earlier("ann", "k", "d") == store.find("job_1", "ann")
    assert store.find("job_1").form == {"prompt": "Räv"}
    assert store.find("job_2").status == "cancelled"
    assert Hooks(engine).find("ann") == "https://example.org/hook"
    assert store.claim("me") is not None
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_those_who_start_at_once_make_the_tables_once(open_engine: OpenEngine) -> None:
    found: list[str | None] = []

    def start() -> None:
        found.append(revision(open_engine()))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["0002"] * 6


def test_a_database_of_a_later_version_is_refused(open_engine: OpenEngine) -> None:
    with open_engine().begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="a later version of Unmask made it: schema 9999"):
        open_engine()
