"""What is told of the models of an engine."""

from dataclasses import dataclass
from enum import Enum

from unmask.pipeline import ModelInfo


class ModelState(Enum):
    """Where a model is between its folder and the workers."""

    ABSENT = "absent"
    LOADING = "loading"
    LOADED = "loaded"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelStatus:
    """What is known of a model: ``info`` once it was loaded, ``reason`` if it could not be."""

    name: str
    state: ModelState
    reason: str
    info: ModelInfo | None
