"""A loaded model: from a request to pictures."""

from unmask.pipeline.drawing import Drawing, Start
from unmask.pipeline.model import Generated, Pipeline, PreparedRequest, read_card
from unmask.pipeline.request import (
    MAX_IMAGES,
    MAX_PROMPT_CHARACTERS,
    DrawRequest,
    ModelInfo,
)

__all__ = [
    "MAX_IMAGES",
    "MAX_PROMPT_CHARACTERS",
    "DrawRequest",
    "Drawing",
    "Generated",
    "ModelInfo",
    "Pipeline",
    "PreparedRequest",
    "Start",
    "read_card",
]
