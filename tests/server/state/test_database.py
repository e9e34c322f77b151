"""What opening a database refuses, and what it says when it cannot be reached."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.worlds.jobs import OpenEngine
from tests.worlds.postgres import Cluster
from unmask.errors import ConfigError, UnavailableError
from unmask.server.state.database import FILE_NAME, changing, open_folder, open_url, upsert
from unmask.server.state.tables import jobs, webhooks


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    engine = open_folder(tmp_path)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN more TEXT")
    with pytest.raises(ConfigError, match=r"jobs\.sqlite: another version"):
        open_folder(tmp_path)
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        open_folder(tmp_path)


def test_those_who_begin_a_new_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite itself refuses one of them in some rounds."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(15):
            for engine in pool.map(open_folder, [tmp_path / str(number)] * 8):
                engine.dispose()


@pytest.mark.parametrize("url", ["here", "mysql://me@host/name", "sqlite:///file", "postgresql:/"])
def test_what_is_no_address_of_a_database_is_refused_with_the_form(url: str) -> None:
    with pytest.raises(ConfigError, match=r"UNMASK_DATABASE.*give postgresql://USER") as refusal:
        open_url(url)
    assert "\n" not in str(refusal.value)


def test_one_that_cannot_be_reached_is_unavailable_and_its_password_is_not_told() -> None:
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    with pytest.raises(UnavailableError) as refusal:
        open_url("postgresql://me:secret@127.0.0.1:1/name")
    assert "secret" not in f"{refusal.value} {refusal.value.__cause__}"


def test_a_database_that_was_started_anew_is_used_as_before(postgres: Cluster) -> None:
    engine = open_url(postgres.make())
    with engine.connect() as connection:
        connection.execute(select(jobs)).all()
    postgres.stop()
    with pytest.raises(UnavailableError), engine.connect():
        pass
    postgres.start()
    with engine.connect() as connection:
        connection.execute(select(jobs)).all()
    engine.dispose()


def test_a_row_is_added_changed_or_left_alone(open_engine: OpenEngine) -> None:
    engine = open_engine()
    row = {"owner": "ann", "url": "a", "secret": "s", "created": 1.0}
    with changing(engine) as connection:
        assert upsert(connection, webhooks, row, {"url": "b"})
        assert upsert(connection, webhooks, row, {"url": "b"})
        assert not upsert(connection, webhooks, row, {"url": "c"}, where=webhooks.c.url == "a")
        assert connection.execute(select(webhooks.c.url)).scalar_one() == "b"
