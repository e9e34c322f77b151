"""Drawing clips of any length, known in part or not at all, window by window in time.

The windows of a clip overlap by slots whose tokens are kept as they are, never encoded again: what
was drawn once stays, and the next window sees how things move.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unmask.editing.clip_edits import ClipEdit, FrameMasks, Frames
from unmask.editing.edits import redrawn
from unmask.editing.windows import cells_of
from unmask.tokenizers.clip import ClipTokenizer

OVERLAP = 2  # slots of a window that an earlier one has drawn: fewer tell nothing of speed


class TimeWindow(NamedTuple):
    """Slots first ... end - 1, drawn in one run of the model for the scene of that number."""

    first: int
    end: int
    scene: int = 0


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """What all clips of a request share; nothing in it changes. ``tokens`` (slots, rows, columns)
    are those of the frames, and ``unknown`` tells which are to be drawn. There are no windows if
    all that is masked lies between key frames that are known."""

    edit: ClipEdit | None
    frames: int
    tokens: Tensor
    unknown: Tensor
    windows: tuple[TimeWindow, ...]

    def on(self, device: torch.device | str) -> "PreparedClip":
        """The same for a copy of the model that may live on another device."""
        return replace(self, tokens=self.tokens.to(device), unknown=self.unknown.to(device))


def time_windows(scenes: Sequence[int], longest: int, overlap: int = OVERLAP) -> list[TimeWindow]:
    """Windows of at most ``longest`` slots that cover scenes of so many slots each, in their order:
    each but the first begins with ``overlap`` slots of what was before it."""
    windows: list[TimeWindow] = []
    begin = 0
    overlap = min(overlap, longest - 1)
    for scene, slots in enumerate(scenes):
        end = begin + slots
        while begin < end:
            first = max(0, begin - overlap)
            window = TimeWindow(first, min(end, first + longest), scene)
            windows.append(window)
            begin = window.end
    return windows


def prepare_clip(
    edit: ClipEdit | None,
    scenes: Sequence[int],
    tokenizer: ClipTokenizer,
    grid: tuple[int, ...],
    device: torch.device | str = "cpu",
) -> PreparedClip:
    """Plan a clip of scenes of so many frames each, for a model of that grid, (slots, rows,
    columns) at most, whose frames an edit has. The tokenizer lives on ``device``."""
    longest, rows, columns = grid
    frames = sum(scenes)
    ends = [slots_of(sum(scenes[: i + 1]), tokenizer.slot) for i in range(len(scenes))]
    windows = time_windows(
        [end - start for start, end in zip([0, *ends], ends, strict=False)], longest
    )
    slots = ends[-1]
    tokens = torch.zeros(slots, rows, columns, dtype=torch.int64, device=device)
    unknown = torch.ones(slots, rows, columns, dtype=torch.bool, device=device)
    if edit is not None:
        shown, masks = _key_frames(edit, tokenizer.slot, slots)
        unknown = torch.from_numpy(cells_of(masks, tokenizer.patch)).to(device)
        windows = _with_work(windows, unknown)
        pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float().div(255).to(device)
        # Slot by slot, as a token must not depend on how long the clip is.
        for i in sorted(_seen_slots(edit, windows, unknown, tokenizer.slot)):
            tokens[i] = tokenizer.encode(pixels[i : i + 1])[0]
    return PreparedClip(edit, frames, tokens, unknown, tuple(windows))


def _seen_slots(
    edit: ClipEdit, windows: Sequence[TimeWindow], unknown: Tensor, slot: int
) -> set[int]:
    """The slots whose tokens are looked at, by a window or to draw masked frames; of a blind edit
    those alone that have a known one."""
    masked = np.flatnonzero(edit.masks.any((1, 2))).tolist()
    ends = {-(-frame // slot) for frame in masked}  # the slots that they belong to
    seen = ends | {max(end - 1, 0) for end in ends}  # whose frames hang on those before too
    seen |= {place for window in windows for place in range(window.first, window.end)}
    return seen - set(unknown.flatten(1).all(1).nonzero()[:, 0].tolist()) if edit.blind else seen


def _with_work(windows: Sequence[TimeWindow], unknown: Tensor) -> list[TimeWindow]:
    """The windows that have anything to draw when those before them are done."""
    left = unknown.flatten(1).any(1)
    working = []
    for window in windows:
        span = slice(window.first, window.end)
        if left[span].any():
            working.append(window)
        left[span] = False
    return working


def slots_of(frames: int, slot: int) -> int:
    """How many slots hold so many frames; the last may be cut after decoding."""
    return 1 + -(-(frames - 1) // slot)


def _key_frames(edit: ClipEdit, slot: int, slots: int) -> tuple[Frames, FrameMasks]:
    """The key frame of each slot, (slots, height, width, 3), and what may change in it, (slots,
    height, width). The tokens of a slot are those of its key frame: whether they are known does not
    hang on the frames before it, which are drawn from it."""
    # A slot that is cut short ends in the last frame, as if that were held.
    key = [min(i * slot, len(edit.frames) - 1) for i in range(slots)]
    frames, masks = edit.frames[key].copy(), edit.masks[key]
    if edit.blind:
        for frame, where in zip(frames, ~masks, strict=True):
            frame[~where] = frame[where].mean(0).astype(np.uint8) if where.any() else 128
    return frames, masks


class ClipWindow(NamedTuple):
    """A window that waits to be drawn: tokens and unknown ones (cells,)."""

    window: TimeWindow
    part: int
    tokens: Tensor
    unknown: Tensor


class DrawnClip:
    """One clip of a prepared request: take ``next_window`` and ``finish`` it, until there is none,
    then take the ``frames``."""

    def __init__(self, prepared: PreparedClip, choose: Callable[[int], Tensor]) -> None:
        """``choose(count)`` gives uniforms in (0, 1), which pick the tokens that a strength below 1
        draws anew."""
        self.prepared = prepared
        self._tokens = prepared.tokens.clone()
        strength = 1.0 if prepared.edit is None else prepared.edit.strength
        unknown = redrawn(prepared.unknown.cpu().numpy(), strength, choose)
        self._unknown = torch.from_numpy(unknown).to(prepared.unknown.device, copy=True)
        self._part = 0

    def next_window(self) -> ClipWindow | None:
        """The next window that has anything to draw."""
        windows = self.prepared.windows
        while self._part < len(windows):
            window = windows[self._part]
            span = slice(window.first, window.end)
            if self._unknown[span].any():
                tokens, unknown = self._tokens[span].clone(), self._unknown[span].clone()
                return ClipWindow(window, self._part, tokens.flatten(), unknown.flatten())
            self._part += 1
        return None

    def finish(self, window: ClipWindow, tokens: Tensor) -> None:
        """Take the tokens (cells,) of the window."""
        span = slice(window.window.first, window.window.end)
        drawn = torch.where(window.unknown, tokens, window.tokens)
        self._tokens[span] = drawn.view_as(self._tokens[span])
        self._unknown[span] = False
        self._part += 1

    def frames(self, tokenizer: ClipTokenizer) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """The frames (frames, height, width, 3) of the finished tokens, with what was known."""
        decoded = tokenizer.decode_clips(self._tokens[None])[0, : self.prepared.frames]
        frames = (decoded * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        if self.prepared.edit is None:
            return frames
        edit = self.prepared.edit
        return np.where(edit.masks[..., None], frames, edit.frames)
