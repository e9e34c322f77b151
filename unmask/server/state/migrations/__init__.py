"""Takes a database to the schema of now, from any that came before it."""

import threading
from functools import cache
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from unmask.errors import ConfigError

FIRST = "0001"  # that of databases which were made before there were revisions
_running = threading.Lock()  # the steps speak to one connection at a time


def upgrade(connection: Connection) -> None:
    """Do the steps that are missing, within the transaction of the connection. ConfigError for a
    database that a later version has made."""
    context, steps = MigrationContext.configure(connection), _steps()
    there = context.get_current_revision()
    if there == steps.get_current_head():
        return
    with _running, Operations.context(context):
        if there is None and inspect(connection).has_table("jobs"):
            context.stamp(steps, FIRST)
            there = FIRST
        if there is not None and there not in {step.revision for step in steps.walk_revisions()}:
            raise ConfigError(f"a later version of Unmask made it: schema {there}")
        for step in reversed(list(steps.iterate_revisions("head", there or "base"))):
            step.module.upgrade()
        context.stamp(steps, "head")


@cache
def _steps() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))
