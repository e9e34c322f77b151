"""Commands about keys: add, list, revoke. A server that runs takes notice at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.commands.root import commands
from unmask.errors import ConfigError, UnavailableError, choices

if TYPE_CHECKING:
    from unmask.server.keys.store import KeyFile
    from unmask.server.keys.table import KeyTable
    from unmask.settings import Settings

keys = typer.Typer(
    help="The keys of those who may use the server, in the state folder [UNMASK_STATE_DIR] or the "
    "database [UNMASK_DATABASE].",
    no_args_is_help=True,
)
commands.add_typer(keys, name="keys")


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Of whoever will use it.")],
    scope: Annotated[
        str, typer.Option(help="draw, metrics, admin (anything), with commas between them.")
    ] = "draw",
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead of the settings': requests_per_minute, requests_per_day, "
            "tokens_per_minute, tokens_per_day or jobs_at_once; 0 = no bound. Repeatable.",
            metavar="NAME=NUMBER",
        ),
    ] = None,
) -> None:
    """Make a key and show it, this once: only its hash is kept."""
    from unmask.server.keys.limits import Limits

    bounds: dict[str, int] = {}
    for text in limit or []:
        bound, _, number = text.partition("=")
        if bound not in Limits.model_fields:
            raise ConfigError(f"limit {bound!r}: {choices(bound, Limits.model_fields)}")
        if not (number.isascii() and number.isdigit()):
            raise ConfigError(f"limit {text!r}: give {bound}=NUMBER, 0 or more")
        bounds[bound] = int(number)
    from unmask.settings import load_settings

    with key_source(load_settings()) as source:
        print(source.add(name, scope.split(","), Limits(**bounds)))


@keys.command(name="list")
def show() -> None:
    """List the keys: names, scopes, limits of their own, and when they were made."""
    from unmask.settings import load_settings

    with key_source(load_settings()) as source:
        found = source.read()
    for key in found:
        bounds = key.limits.model_dump(exclude_none=True)
        told = " ".join(f"{name}={bound}" for name, bound in bounds.items())
        scopes = ",".join(sorted(key.scopes))
        print("  ".join(filter(None, (key.name, scopes, key.created, told))))


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="As the list has it.")]) -> None:
    """Forget a key: nobody gets in with it any more."""
    from unmask.settings import load_settings

    with key_source(load_settings()) as source:
        source.revoke(name)


@contextmanager
def key_source(settings: "Settings") -> "Iterator[KeyFile | KeyTable]":
    """Where the keys are. ConfigError if that cannot be reached."""
    from unmask.server.keys.store import KeyFile
    from unmask.server.keys.table import KeyTable
    from unmask.server.state.database import VARIABLE, open_url

    if settings.database is None:
        yield KeyFile(settings.state_folder)
        return
    with reaching(VARIABLE):
        engine = open_url(settings.database.get_secret_value())
    try:
        yield KeyTable(lambda: engine)
    finally:
        engine.dispose()


@contextmanager
def reaching(variable: str) -> Iterator[None]:
    """What is tried in here reaches what the variable names; ConfigError if it cannot be."""
    from unmask.server.state.database import cause

    try:
        yield
    except (UnavailableError, OSError) as error:
        raise ConfigError(f"{variable}: it cannot be reached: {cause(error)}") from None
