"""The command line: draw, edit, list models, serve, train and evaluate."""

from unmask.commands import draw, models, serve
from unmask.commands.root import commands, run

__all__ = ["commands", "draw", "models", "run", "serve"]
