"""A loaded model: from a request to pictures."""

from unmask.editing.clip_edits import MAX_FRAMES
from unmask.pipeline.clips import RATE, Scene, whole_slots
from unmask.pipeline.drawing import Drawing, Drawn, Start
from unmask.pipeline.judging import PictureVerdict
from unmask.pipeline.model import Pipeline
from unmask.pipeline.request import (
    MAX_IMAGES,
    MAX_PROMPT_CHARACTERS,
    DrawRequest,
    ModelInfo,
)
from unmask.pipeline.results import Generated, PreparedRequest
from unmask.pipeline.warnings import RequestWarning, UnknownWord
from unmask.store import read_card

__all__ = [
    "MAX_FRAMES",
    "MAX_IMAGES",
    "MAX_PROMPT_CHARACTERS",
    "RATE",
    "DrawRequest",
    "Drawing",
    "Drawn",
    "Generated",
    "ModelInfo",
    "PictureVerdict",
    "Pipeline",
    "PreparedRequest",
    "RequestWarning",
    "Scene",
    "Start",
    "UnknownWord",
    "read_card",
    "whole_slots",
]
