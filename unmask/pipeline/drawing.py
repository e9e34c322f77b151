"""Drawings: one image or clip on its way, as the runs of tokens that it needs and what becomes of
them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from unmask.clips.clip import Clip
from unmask.editing import EditedImage, Window
from unmask.sampling.backbone import Pair
from unmask.sampling.plan import Plan

Drawn = Image.Image | Clip


class Start(NamedTuple):
    """Tokens (cells,) that a plan is to finish, and which of them it may change (cells,) bool; the
    part-th of so many that an image takes. ``pair`` is the condition and the null if they are not
    those of the request, ``corner`` the row and column of the first cell in a picture."""

    plan: Plan
    tokens: Tensor
    unknown: Tensor
    part: int = 0
    parts: int = 1
    pair: Pair | None = None
    corner: tuple[int, int] = (0, 0)


class Drawing(ABC):
    """One image: whoever has a batch asks what can be run now, and hands the finished tokens in."""

    def __init__(self) -> None:
        self.image: Drawn | None = None  # once nothing is left to be drawn

    @abstractmethod
    def start(self) -> list[Start]:
        """What can be run first; several do not wait for each other."""

    @abstractmethod
    def finish(self, start: Start, tokens: Tensor) -> list[Start]:
        """Take the tokens (cells,) of a start, and give what can be run now that it is done."""


class BlankDrawing(Drawing):
    """An image from nothing but its prompt."""

    def __init__(self, plan: Plan, blank: Tensor, decode: Callable[[Tensor], Image.Image]) -> None:
        """``blank`` (cells,) is masked everywhere; ``decode`` makes a picture of tokens."""
        super().__init__()
        self._start, self._decode = Start(plan, blank, torch.ones_like(blank).bool()), decode

    def start(self) -> list[Start]:
        return [self._start]

    def finish(self, start: Start, tokens: Tensor) -> list[Start]:
        self.image = self._decode(tokens)
        return []


class EditDrawing(Drawing):
    """An image that is drawn over another, window by window."""

    def __init__(
        self,
        edited: EditedImage,
        plan: Callable[[Window], Plan],
        pair: Callable[[Window], Pair | None],
        mask_id: int | None,
    ) -> None:
        """``plan`` and ``pair`` make those of a window. What a window draws starts masked by
        ``mask_id``, or as it is, to be revised, if that is None."""
        super().__init__()
        self._edited, self._plan, self._pair, self._mask_id = edited, plan, pair, mask_id
        self._windows: dict[int, Window] = {}

    def start(self) -> list[Start]:
        return self._starts(self._edited.start())

    def finish(self, start: Start, tokens: Tensor) -> list[Start]:
        starts = self._starts(self._edited.finish(self._windows.pop(start.part), tokens))
        self.image = self._edited.image
        return starts

    def _starts(self, windows: list[Window]) -> list[Start]:
        starts = []
        for window in windows:
            self._windows[window.part] = window
            tokens = window.tokens
            if self._mask_id is not None:
                tokens = tokens.masked_fill(window.unknown, self._mask_id)
            plan, pair = self._plan(window), self._pair(window)
            start = Start(plan, tokens, window.unknown, window.part, window.parts, pair)
            starts.append(start._replace(corner=window.corner))
        return starts
