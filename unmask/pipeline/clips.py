"""Clips on their way, and what a request says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from unmask.clips.clip import Clip
from unmask.config import checked
from unmask.editing.clip_drawing import ClipWindow, DrawnClip
from unmask.editing.clip_edits import MAX_FRAMES, check_frames
from unmask.errors import RequestError, shown
from unmask.pipeline.drawing import Drawing, Start
from unmask.sampling.backbone import Pair
from unmask.sampling.plan import Plan
from unmask.tokenizers.clip import ClipTokenizer

RATE = 8  # frames a second of the clips that models here are trained on
MAX_SCENES = 16


@dataclass(frozen=True)
class Scene:
    """A part of a clip that has a prompt of its own."""

    prompt: str
    frames: int


def whole_slots(seconds: float, slot: int, param: str = "seconds") -> int:
    """The frames of the whole slots, of so many frames each, that last about so long, one slot at
    least: those of a scene, or of what a clip is extended by. A clip has one frame before them.

    RequestError, naming ``param``, for what is no time, or longer than a clip may be.
    """
    longest = MAX_FRAMES / RATE
    if not 0 < seconds <= longest:
        raise RequestError(f"{param} is {seconds:g}; it must lie above 0, up to {longest:g}", param)
    return max(1, round(RATE * seconds / slot)) * slot


def check_scenes(scenes: Sequence[Scene], slot: int) -> None:
    """RequestError unless a clip may have these scenes after its first."""
    if not isinstance(scenes, list | tuple) or not all(isinstance(each, Scene) for each in scenes):
        raise RequestError(f"scenes: expected a list of Scene, got {shown(scenes)}", "scenes")
    if not 1 <= len(scenes) <= MAX_SCENES:
        raise RequestError(f"scenes: {len(scenes)}; give 1 to {MAX_SCENES}", "scenes")
    for scene in scenes:
        checked("scenes", str, scene.prompt)
        # With fewer it might have no slot of its own, and so not be drawn.
        if checked("scenes", int, scene.frames) < slot:
            raise RequestError(
                f"scenes: one has {scene.frames} frames; the least is {slot}", "scenes"
            )
    check_frames(sum(scene.frames for scene in scenes), "scenes")


class ClipDrawing(Drawing):
    """A clip, window after window in time."""

    def __init__(
        self,
        drawn: DrawnClip,
        plan: Callable[[ClipWindow], Plan],
        pair: Callable[[ClipWindow], Pair | None],
        mask_id: int | None,
        tokenizer: ClipTokenizer,
    ) -> None:
        """``plan`` and ``pair`` make those of a window. What a window draws starts masked by
        ``mask_id``, or as it is, to be revised, if that is None."""
        super().__init__()
        self._drawn, self._plan, self._pair = drawn, plan, pair
        self._mask_id, self._tokenizer = mask_id, tokenizer
        self._window: ClipWindow | None = None

    def start(self) -> list[Start]:
        self._window = window = self._drawn.next_window()
        if window is None:
            self.image = Clip(self._drawn.frames(self._tokenizer), RATE)
            return []
        tokens = window.tokens
        if self._mask_id is not None:
            tokens = tokens.masked_fill(window.unknown, self._mask_id)
        parts = len(self._drawn.prepared.windows)
        pair = self._pair(window)
        corner = window.window.corner
        return [Start(self._plan(window), tokens, window.unknown, window.part, parts, pair, corner)]

    def finish(self, start: Start, tokens: Tensor) -> list[Start]:
        assert self._window is not None, "a start was given"
        self._drawn.finish(self._window, tokens)
        return self.start()
