"""The command that looks at the machine before a server does."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmask.commands.root import commands
from unmask.errors import UnmaskError

if TYPE_CHECKING:
    from unmask.settings import Settings


@dataclass(frozen=True)
class Finding:
    """What a check found: what is there, or what is wrong with it."""

    name: str
    wrong: bool
    told: str


@commands.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings [UNMASK_CONFIG]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: a list of findings.")] = False,
) -> None:
    """Tell what unmask serve would find here with the same settings: a line for each thing.

    The exit code is 1 if something is wrong. No model is loaded, and nothing is changed, but that a
    database of an older version is taken forward as a server does it.
    """
    from unmask.settings import load_settings

    try:
        findings = _examine(load_settings(config=config))
    except UnmaskError as error:
        findings = [Finding("settings", True, str(error))]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'WRONG' if finding.wrong else 'ok':5}  {finding.name}: {finding.told}")
    sys.exit(1 if any(finding.wrong for finding in findings) else 0)


def _examine(settings: "Settings") -> list[Finding]:
    from unmask.commands.checks import CHECKS

    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(Finding(name, False, check(settings)))
        except (UnmaskError, OSError) as error:
            findings.append(Finding(name, True, str(error)))
    return findings
