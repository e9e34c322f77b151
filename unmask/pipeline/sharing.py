"""How the windows of a large picture share what its prompt names: each name is drawn once."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from unmask.editing import Edit, WindowPlan
from unmask.editing.windows import Box, Names, Sharing
from unmask.errors import PromptTooLongError
from unmask.models.conditions import ConditionEncoder
from unmask.models.subjects import Parts, find_parts
from unmask.pipeline.judging import PictureJudge
from unmask.scenes.judge import Found

MAX_JUDGED_PIXELS = 1 << 20  # of a known picture that is looked at for what it shows already


@dataclass(frozen=True)
class SharedPrompt:
    """A prompt, its ``parts`` that are to be drawn, and what the plan of the windows must know."""

    prompt: str
    parts: Parts
    sharing: Sharing

    def of(self, names: Names) -> str:
        """What of the prompt a window draws that has these names; empty for the ground."""
        if names is None:
            return self.prompt
        return self.parts.only(self.parts.names[names.start : names.stop]).text()


def share(prompt: str, edit: Edit, judge: PictureJudge | None, times: int) -> SharedPrompt | None:
    """How windows share a prompt, None if each draws it as it is: where they see what was there, or
    there is no prompt. Of a picture that is drawn on beyond its sides a judge tells what it shows
    already: that is not drawn again. It looks at a picture so many ``times`` smaller."""
    if not edit.blind or not prompt.strip():
        return None
    parts, things = find_parts(prompt), list[Box]()
    around = edit.kind == "outpaint"
    if around and judge is not None and (~edit.mask).sum() <= MAX_JUDGED_PIXELS:
        known = _known(edit)
        pixels = edit.pixels[known][..., :3]
        seen, found = judge.sees(parts.names, Image.fromarray(pixels), times)
        named = zip(parts.names, seen, strict=True)
        parts = parts.only(name for name, there in named if not there)
        things = [_box(each, known) for each in found]
    sharing = Sharing(len(parts.names), around, bool(parts.ground), tuple(things))
    return SharedPrompt(prompt, parts, sharing)


def check_parts(condition: ConditionEncoder, shared: SharedPrompt, plan: WindowPlan) -> None:
    """PromptTooLongError if a window draws more of a prompt than its model can read at once."""
    for prompt in {shared.of(names) for names in plan.names}:
        try:
            condition([prompt])
        except PromptTooLongError as error:
            raise PromptTooLongError(
                f"{error}, and the picture has too little room to draw its parts in windows of "
                "their own: shorten it, or make the picture larger",
                "prompt",
            ) from error


def _known(edit: Edit) -> tuple[slice, slice]:
    """Where the picture lies that is drawn on."""
    rows, columns = (np.flatnonzero(~edit.mask.all(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _box(found: Found, known: tuple[slice, slice]) -> Box:
    """Where something stands that was found in the known part."""
    x, y, half = found.x + known[1].start, found.y + known[0].start, found.side / 2
    return x - half, y - half, x + half, y + half
