"""A loaded model: from a request to pictures."""

from unmask.editing.clip_edits import MAX_FRAMES
from unmask.pipeline.clips import RATE, Scene, asked_frames, whole_slots
from unmask.pipeline.drawing import Drawing, Drawn, Start
from unmask.pipeline.model import Pipeline, read_card
from unmask.pipeline.request import (
    MAX_IMAGES,
    MAX_PROMPT_CHARACTERS,
    DrawRequest,
    ModelInfo,
)
from unmask.pipeline.results import Generated, PreparedRequest

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
    "Pipeline",
    "PreparedRequest",
    "Scene",
    "Start",
    "asked_frames",
    "read_card",
    "whole_slots",
]
