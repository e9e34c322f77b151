"""The command line: draw, edit, list models, serve, train and evaluate; keys, settings, the
machine."""

from unmask.commands import bench, clips, doctor, draw, keys, models, serve, settings
from unmask.commands.root import commands, run

__all__ = [
    "bench",
    "clips",
    "commands",
    "doctor",
    "draw",
    "keys",
    "models",
    "run",
    "serve",
    "settings",
]
