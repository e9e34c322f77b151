"""The judge of a model: whether its pictures show what their prompt asks for."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image

from unmask.scenes.judge import Found, Judge, load_judge
from unmask.scenes.reading import PromptReader, UnreadError
from unmask.scenes.wanted import faults


@dataclass(frozen=True)
class PictureVerdict:
    """``right``: all that the prompt asks for is there, else ``faults`` (``scenes.wanted.FAULTS``)
    tell what is not; None if the judge cannot read the prompt, for a ``reason``. ``objects`` and
    ``background`` are what it sees in any case."""

    right: bool | None
    faults: tuple[str, ...]
    reason: str | None
    objects: tuple[Found, ...]
    background: str


class PictureJudge:
    """A judge in a folder, read when it is first asked; it may be asked from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, Lock()

    @classmethod
    def of(cls, model: Path) -> "PictureJudge | None":
        """The judge in a model's folder, if there is one."""
        folder = model / "judge"
        return cls(folder) if (folder / "config.json").is_file() else None

    @cached_property
    def _judge(self) -> Judge:
        return load_judge(self._folder)

    def __call__(self, prompt: str, image: Image.Image, times: int = 1) -> PictureVerdict:
        """The verdict on a picture that is so many ``times`` as large as those that the judge
        knows. ConfigError if it cannot be read."""
        with self._lock:
            judge = self._judge
        known = judge.config
        wanted, reason = None, None
        try:
            wanted = PromptReader(known.nouns, known.colours, known.backgrounds)(prompt)
        except UnreadError as error:
            reason = str(error)
        pixels = torch.from_numpy(np.array(image.convert("RGB").reduce(times))).permute(2, 0, 1)
        [sight] = judge.look(pixels[None].float() / 255)
        wrong = () if wanted is None else faults(wanted, sight)
        right = None if wanted is None else not wrong
        objects = tuple(_enlarged(thing, times) for thing in sight.objects)
        return PictureVerdict(right, wrong, reason, objects, sight.background)


def _enlarged(thing: Found, times: int) -> Found:
    return replace(thing, x=thing.x * times, y=thing.y * times, side=thing.side * times)
