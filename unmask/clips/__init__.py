"""Clips and their files: frames with a rate, written for players and read from untrusted bytes.

What it exports is loaded on first use: the process that decodes starts without numpy and torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unmask.clips.clip import Clip
    from unmask.clips.limits import ClipLimits
    from unmask.clips.reading import read_clip, read_clip_file

__all__ = ["Clip", "ClipLimits", "read_clip", "read_clip_file"]
_ROOMS = {"Clip": "clip", "ClipLimits": "limits"}


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(f"unmask.clips.{_ROOMS.get(name, 'reading')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
