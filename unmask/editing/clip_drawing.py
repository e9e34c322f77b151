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
    all that is masked lies between key frames that are known. ``hints`` (slots, rows, columns, 2),
    a code and an offset, tell of frames that are given before a key frame that is not; None if no
    cell has one."""

    edit: ClipEdit | None
    frames: int
    tokens: Tensor
    unknown: Tensor
    windows: tuple[TimeWindow, ...]
    hints: Tensor | None = None

    def on(self, device: torch.device | str) -> "PreparedClip":
        """The same for a copy of the model that may live on another device."""
        hints = None if self.hints is None else self.hints.to(device)
        tokens, unknown = self.tokens.to(device), self.unknown.to(device)
        return replace(self, tokens=tokens, unknown=unknown, hints=hints)


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
    hint_offsets: int = 0,
) -> PreparedClip:
    """Plan a clip of scenes of so many frames each, for a model of that grid, (slots, rows,
    columns) at most, that takes hints of so many offsets, whose frames an edit has. The tokenizer
    lives on ``device``."""
    longest, rows, columns = grid
    frames = sum(scenes)
    ends = [slots_of(sum(scenes[: i + 1]), tokenizer.slot) for i in range(len(scenes))]
    windows = time_windows(
        [end - start for start, end in zip([0, *ends], ends, strict=False)], longest
    )
    slots = ends[-1]
    tokens = torch.zeros(slots, rows, columns, dtype=torch.int64, device=device)
    unknown = torch.ones(slots, rows, columns, dtype=torch.bool, device=device)
    hints = None
    if edit is not None:
        # A slot that is cut short ends in the last frame, as if that were held.
        keys = [min(i * tokenizer.slot, frames - 1) for i in range(slots)]
        shown, masks = _shown(edit, keys)
        unknown = torch.from_numpy(cells_of(masks, tokenizer.patch)).to(device)
        windows = _with_work(windows, unknown)
        if seen := sorted(_seen_slots(edit, windows, unknown, tokenizer.slot)):
            tokens[seen] = _encoded(shown[seen], tokenizer, device)
        if hint_offsets:
            hints = _hints(edit, keys, tokenizer, unknown, hint_offsets)
    return PreparedClip(edit, frames, tokens, unknown, tuple(windows), hints)


def _encoded(frames: Frames, tokenizer: ClipTokenizer, device: torch.device | str) -> Tensor:
    """The tokens (slots, rows, columns) of key frames, one a slot."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255).to(device)
    # Slot by slot, as a token must not depend on how long the clip is.
    return torch.cat([tokenizer.encode(pixels[i : i + 1]) for i in range(len(frames))])


def _hints(
    edit: ClipEdit,
    keys: Sequence[int],
    tokenizer: ClipTokenizer,
    unknown: Tensor,
    offsets: int,
) -> Tensor | None:
    """The hints of a clip whose key frames are these: at each unknown cell the last frame of its
    slot in which that is given."""
    hints = torch.zeros(*unknown.shape, 2, dtype=torch.int64, device=unknown.device)
    for offset in range(offsets, 0, -1):  # so that the nearest to the key frame is kept
        slots = [
            slot
            for slot, (before, key) in enumerate(zip([0, *keys], keys, strict=False))
            if before < key - offset and unknown[slot].any() and not edit.masks[key - offset].all()
        ]
        if slots:
            given = [keys[slot] - offset for slot in slots]
            shown, masks = _shown(edit, given)
            masked = torch.from_numpy(cells_of(masks, tokenizer.patch)).to(unknown.device)
            codes = _encoded(shown, tokenizer, unknown.device)
            told = torch.stack([codes, torch.full_like(codes, offset)], -1)
            here = (unknown[slots] & ~masked).unsqueeze(-1)
            hints[slots] = torch.where(here, told, hints[slots])
    return hints if hints.any() else None


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


def _shown(edit: ClipEdit, numbers: Sequence[int]) -> tuple[Frames, FrameMasks]:
    """These frames, (numbers, height, width, 3), and what may change in them, (numbers, height,
    width). The tokens of a slot are those of its key frame: whether they are known does not hang on
    the frames before it, which are drawn from it."""
    frames, masks = edit.frames[numbers].copy(), edit.masks[numbers]
    if edit.blind:
        for frame, where in zip(frames, ~masks, strict=True):
            frame[~where] = frame[where].mean(0).astype(np.uint8) if where.any() else 128
    return frames, masks


class ClipWindow(NamedTuple):
    """A window that waits to be drawn: tokens and unknown ones (cells,), and hints (cells, 2)."""

    window: TimeWindow
    part: int
    tokens: Tensor
    unknown: Tensor
    hints: Tensor | None = None


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
                hints = self.prepared.hints
                if hints is not None:
                    hints = hints[span].flatten(0, 2) if hints[span].any() else None
                return ClipWindow(window, self._part, tokens.flatten(), unknown.flatten(), hints)
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
