"""What every checkpoint family gives: a card, a tokenizer, a backbone, a condition encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unmask.card import ModelCard
from unmask.devices import Precision
from unmask.models.base import ImageBackbone
from unmask.models.conditions import ConditionEncoder
from unmask.tokenizers.base import Tokenizer


class Parts(NamedTuple):
    """A loaded model: everything on its device, in eval mode, without gradients."""

    tokenizer: Tokenizer
    backbone: ImageBackbone
    condition: ConditionEncoder


class Family(NamedTuple):
    """A published layout and how it is read.

    ``recognises`` looks at the names and small files of a folder, never at weights. ``card`` gets
    the folder and the name that the model shall have. ``load`` gets the folder, a device and the
    precision of the backbone (tokenizers find tokens in fp32); ConfigError names the file at fault.
    ``files`` are the patterns of what ``load`` reads, for a download.
    """

    name: str
    layout: str
    recognises: Callable[[Path], bool]
    card: Callable[[Path, str], ModelCard]
    load: Callable[[Path, str, Precision], Parts]
    files: Callable[[Precision], tuple[str, ...]]
