"""The command line: draw, edit, list models, serve, train and evaluate; keys and settings."""

from unmask.commands import clips, draw, keys, models, serve, settings
from unmask.commands.root import commands, run

__all__ = ["clips", "commands", "draw", "keys", "models", "run", "serve", "settings"]
