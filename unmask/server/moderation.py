"""Moderation: a prompt in, a verdict out; a picture in, a verdict out.

The one that ships is a list of words and patterns, which has no opinion of pictures. Another one is
a ``Moderation`` given to ``create_app``.
"""

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Unpack

from PIL import Image

from unmask.errors import ConfigError, ModerationError
from unmask.pipeline import DrawRequest, Generated
from unmask.server.engine.costs import OpenedModel, WeighedRequest
from unmask.server.engine.face import EngineAround, EngineFace, Wishes

STANDARD = "standard"
UNSEEN = "Cf"  # Unicode's category of a zero-width space and its like


@dataclass(frozen=True)
class Verdict:
    """Whether something may be; if not, ``reason`` completes the sentence "the server refuses"."""

    allowed: bool
    reason: str = ""


ALLOWED = Verdict(True)


@dataclass(frozen=True)
class Moderation:
    """The judges, called in threads: of prompts, and of pictures (sent and drawn) if need be."""

    judge_prompt: Callable[[str], Verdict]
    judge_picture: Callable[[Image.Image], Verdict] | None = None


class WordList:
    """Refuses what holds a word or matches a pattern. Letters' case, odd forms and unseen
    characters make no difference, nor does the white space between words."""

    def __init__(self, lines: Iterable[str]) -> None:
        """A word, or several in order, a line; between slashes a regular expression, which meets
        small letters only; after # a remark. ConfigError for a pattern that cannot be read."""
        self._patterns: list[re.Pattern[str]] = []
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            if text.startswith("/") and text.endswith("/") and len(text) > 2:
                pattern = text[1:-1]
            else:
                pattern = rf"(?<!\w){re.escape(_plain(text))}(?!\w)"
            try:
                self._patterns.append(re.compile(pattern))
            except re.error as error:
                raise ConfigError(f"moderation: line {number}: {text!r}: {error}") from None

    def judge(self, prompt: str) -> Verdict:
        """Whether the prompt holds nothing of the list."""
        plain = _plain(prompt)
        for pattern in self._patterns:
            if found := pattern.search(plain):
                return Verdict(False, f"what speaks of {found[0][:80]!r}")
        return ALLOWED


def read_moderation(name: str) -> Moderation:
    """The list in a file, or the one in the box if the name is ``standard``. ConfigError."""
    try:
        if name == STANDARD:
            text = files("unmask.server").joinpath("moderation.txt").read_text(encoding="utf-8")
        else:
            text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"it cannot be read, and is not {STANDARD!r}: {error}"
        raise ConfigError(f"UNMASK_MODERATION {name}: {message}") from None
    return Moderation(WordList(text.splitlines()).judge)


class ModeratedEngine(EngineAround):
    """An engine that takes and gives back only what the judges allow; whoever asks it, by whatever
    route, cannot go around them."""

    def __init__(self, engine: EngineFace, moderation: Moderation) -> None:
        super().__init__(engine)
        self._moderation = moderation

    async def weigh(self, request: DrawRequest, model: OpenedModel) -> WeighedRequest:
        """As the engine has it; ModerationError for the prompt, or for a picture to draw over."""
        for scene, prompt in enumerate(request.prompts):
            refusal = await asyncio.to_thread(self._moderation.judge_prompt, prompt)
            _check(refusal, "scenes" if scene else "prompt")
        if request.edit is not None:
            await self._check_pictures(request.edit.pictures(), "image")
        return await super().weigh(request, model)

    async def submit(self, weighed: WeighedRequest, **wishes: Unpack[Wishes]) -> Generated:
        """As the engine has it; ModerationError if one of the images that were drawn is refused.
        Where pictures are judged there are no previews, which nobody would have judged."""
        if self._moderation.judge_picture is not None:
            wishes["previews"] = 0
        generated = await super().submit(weighed, **wishes)
        await self._check_pictures(generated.pictures, None)
        return generated

    async def _check_pictures(self, pictures: Sequence[Image.Image], param: str | None) -> None:
        if self._moderation.judge_picture is None:
            return
        for picture in pictures:
            _check(await asyncio.to_thread(self._moderation.judge_picture, picture), param)


def _check(verdict: Verdict, param: str | None) -> None:
    if not verdict.allowed:
        place = f"{param}: " if param else ""
        raise ModerationError(f"{place}the server refuses {verdict.reason}", param)


def _plain(text: str) -> str:
    """The text as it is compared."""
    letters = unicodedata.normalize("NFKC", text)
    seen = "".join(letter for letter in letters if unicodedata.category(letter) != UNSEEN)
    return " ".join(seen.casefold().split())
