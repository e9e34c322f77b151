"""The command itself: its name, its version, and how errors leave it.

torch, the web framework and the trainers are imported in the commands that need them, so that
``unmask --help`` answers at once.
"""

import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unmask import __version__
from unmask.devices import keep_freed_memory
from unmask.errors import UnavailableError, UnmaskError, shown


class _Commands(TyperGroup):
    """Words of a refused option: typer's own do not tell the value."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            from pydantic import ValidationError

            if isinstance(error.__cause__, ValidationError):
                value = shown(error.__cause__.errors(include_url=False)[0]["input"])
                reason = error.message.removeprefix("Value error, ")
                error.message = reason if value in reason else f"{value}: {reason}"
            raise


commands = typer.Typer(
    cls=_Commands,
    help="Draw images with masked generative transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

MODEL_HELP = "Bundled name, folder, or OWNER/NAME[@REVISION] of a hub."


def run() -> None:
    """Run the command line.

    An UnmaskError becomes one line on stderr, and exit code 2, or 1 if the same command may work
    another time. Ctrl-C is exit code 130.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # The name of a file need not be UTF-8: its bytes are told as they are.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        commands()
    except UnmaskError as error:
        print(f"unmask: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, UnavailableError) else 2)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"unmask {__version__}")
        raise typer.Exit


@commands.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    keep_freed_memory()
