"""The command about settings."""

from typing import Annotated

import typer

from unmask.commands.root import commands


@commands.command()
def settings(
    markdown: Annotated[bool, typer.Option(help="As the table of docs/deployment.md.")] = False,
) -> None:
    """List the settings of the server, with their variables and defaults."""
    from unmask.settings import PREFIX, Settings, markdown_table, shown_default

    if markdown:
        print(markdown_table())
        return
    for name, field in Settings.model_fields.items():
        print(f"{PREFIX}{name.upper()} = {shown_default(field)}\n    {field.description}")
