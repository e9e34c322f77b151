"""What a request is made of on its way, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from unmask.clips.clip import Clip
from unmask.editing import PreparedEdit, Window
from unmask.editing.clip_drawing import ClipWindow, PreparedClip
from unmask.pipeline.drawing import Drawn
from unmask.pipeline.request import DrawRequest
from unmask.pipeline.sharing import SharedPrompt


@dataclass(frozen=True)
class Generated:
    """What a request wanted, and how long it took to draw that and all drawn together."""

    drawn: Sequence[Drawn]
    request: DrawRequest
    seconds: float

    @property
    def images(self) -> list[Image.Image]:
        """The pictures; none of a request for clips."""
        return [drawn for drawn in self.drawn if isinstance(drawn, Image.Image)]

    @property
    def pictures(self) -> list[Image.Image]:
        """The pictures, and every frame of the clips."""
        clips = [picture for clip in self.clips for picture in clip.pictures()]
        return [*self.images, *clips]

    @property
    def clips(self) -> list[Clip]:
        """The clips; none of a request for pictures."""
        return [drawn for drawn in self.drawn if isinstance(drawn, Clip)]


@dataclass(frozen=True, eq=False)
class PreparedRequest:
    """What all images of a request share, worked out once."""

    request: DrawRequest
    edit: PreparedEdit | None
    clip: PreparedClip | None = None
    shared: SharedPrompt | None = None  # None: each window draws the prompt as it is

    @property
    def windows(self) -> int:
        """How many runs of the model's grid an image takes. A clip counts as one at least: frames
        between known key frames take none, but they are decoded."""
        if self.clip is not None:
            return max(1, len(self.clip.windows))
        return 1 if self.edit is None else len(self.edit.plan.corners)

    def prompt_of(self, window: Window | ClipWindow) -> str:
        """What a window draws."""
        if isinstance(window, ClipWindow):
            return self.request.prompts[window.window.scene]
        return self.request.read_prompt if self.shared is None else self.shared.of(window.names)
