"""``python -m unmask``: the command line."""

from unmask.commands import run

run()
