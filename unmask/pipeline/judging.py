"""The judge of a model: whether its pictures show what their prompt asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image

from unmask.scenes.judge import COARSEST, Found, Judge, Sight, load_judge
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
        wanted, reason = None, None
        try:
            wanted = self._reader(prompt)
        except UnreadError as error:
            reason = str(error)
        sight = self._look(image, times)
        wrong = () if wanted is None else faults(wanted, sight)
        right = None if wanted is None else not wrong
        return PictureVerdict(right, wrong, reason, sight.objects, sight.background)

    def sees(
        self, prompts: Sequence[str], image: Image.Image, times: int = 1
    ) -> tuple[list[bool], list[Found]]:
        """Whether a picture of any size shows what each prompt asks for, on whatever background
        (no if that cannot be read), and the whole objects in it. ConfigError if the judge cannot be
        read."""
        sides = [(0, -length % (COARSEST * times)) for length in (image.height, image.width)]
        pixels = np.pad(np.array(image.convert("RGB")), [*sides, (0, 0)], mode="edge")
        sight = self._look(Image.fromarray(pixels), times)
        seen = []
        for prompt in prompts:
            try:
                seen.append(not set(faults(self._reader(prompt), sight)) - {"background"})
            except UnreadError:
                seen.append(False)
        return seen, list(sight.objects)

    @property
    def _reader(self) -> PromptReader:
        with self._lock:
            known = self._judge.config
        return PromptReader(known.nouns, known.colours, known.backgrounds)

    def _look(self, image: Image.Image, times: int) -> Sight:
        with self._lock:
            judge = self._judge
        pixels = torch.from_numpy(np.array(image.convert("RGB").reduce(times))).permute(2, 0, 1)
        [sight] = judge.look(pixels[None].float() / 255)
        objects, broken = (
            tuple(_enlarged(thing, times) for thing in things)
            for things in (sight.objects, sight.broken)
        )
        return Sight(objects, broken, sight.background)


def _enlarged(thing: Found, times: int) -> Found:
    return replace(thing, x=thing.x * times, y=thing.y * times, side=thing.side * times)
