"""Drawing clips of any length and size, known in part or not at all, window by window.

The windows of a clip overlap by slots whose tokens are kept as they are, never encoded again: what
was drawn once stays, and the next window sees how things move. Where frames are larger than the
model's, each is a window in time at a corner in space: these are the same at all times, and those
of a picture in which all that any of the frames may change may change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmask.editing.clip_edits import ClipEdit, FrameMasks, Frames
from unmask.editing.edits import Indices, redrawn
from unmask.editing.paint import MaskedPixels, pixels_of, say_of_window, to_bytes
from unmask.editing.windows import (
    Corner,
    WindowPlan,
    area_of,
    cells_of,
    pad_to_tokens,
    window_plan,
)
from unmask.tokenizers.clip import ClipTokenizer

PART = 8  # slots of an edit that are decoded at a time, so that little memory is taken
OVERLAP = 2  # slots of a window that an earlier one has drawn: fewer tell nothing of speed


class TimeWindow(NamedTuple):
    """Slots first ... end - 1, drawn in one run of the model for the scene of that number; of
    larger frames at the cells from a corner on."""

    first: int
    end: int
    scene: int = 0
    corner: Corner = (0, 0)


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """What all clips of a request share; nothing in it changes. ``tokens`` (slots, rows, columns)
    are those of the frames, and ``unknown`` tells which are to be drawn. There are no windows if
    all that is masked lies between key frames that are known. ``hints`` (slots, rows, columns, 2),
    a code and an offset, tell of frames that are given before a key frame that is not; None if no
    cell has one. ``plan`` tells of the corners of an edit."""

    edit: ClipEdit | None
    frames: int
    tokens: Tensor
    unknown: Tensor
    windows: tuple[TimeWindow, ...]
    hints: Tensor | None = None
    plan: WindowPlan | None = None

    def cells(self, window: TimeWindow) -> tuple[slice, ...]:
        """Where a window lies, in tokens."""
        grid = self.tokens.shape[1:] if self.plan is None else self.plan.grid
        return _cells(window, (grid[0], grid[1]))

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
    longest, space = grid[0], (grid[1], grid[2])
    frames = sum(scenes)
    ends = [slots_of(sum(scenes[: i + 1]), tokenizer.slot) for i in range(len(scenes))]
    windows = time_windows(
        [end - start for start, end in zip([0, *ends], ends, strict=False)], longest
    )
    slots = ends[-1]
    if edit is None:
        tokens = torch.zeros(slots, *space, dtype=torch.int64, device=device)
        unknown = torch.ones(slots, *space, dtype=torch.bool, device=device)
        return PreparedClip(None, frames, tokens, unknown, tuple(windows))
    # A slot that is cut short ends in the last frame, as if that were held.
    keys = [min(i * tokenizer.slot, frames - 1) for i in range(slots)]
    patch, plan = tokenizer.patch, window_plan(edit, tokenizer.patch, space)
    masks = np.moveaxis(pad_to_tokens(np.moveaxis(edit.masks[keys], 0, 2), patch, space), 2, 0)
    unknown = torch.from_numpy(cells_of(masks, patch)).to(device)
    tokens = torch.zeros(unknown.shape, dtype=torch.int64, device=device)
    hints = torch.zeros(*unknown.shape, 2, dtype=torch.int64, device=device)
    windows = _with_work(
        [window._replace(corner=corner) for window in windows for corner in plan.corners],
        unknown,
        space,
    )
    for number, corner in enumerate(plan.corners):
        here = (slice(None), *plan.cells(number))
        part = edit.cut(*_pixels(plan.cells(number), patch, edit.size))
        at_corner = [window for window in windows if window.corner == corner]
        if seen := sorted(_seen_slots(part, at_corner, unknown[here], tokenizer.slot)):
            shown, _ = _shown(part, [keys[slot] for slot in seen])
            tokens[here][seen] = _encoded(shown, tokenizer, device)
        if hint_offsets:
            hints[here] = _hints(part, keys, tokenizer, unknown[here], hint_offsets)
    told = hints if hints.any() else None
    return PreparedClip(edit, frames, tokens, unknown, tuple(windows), told, plan)


def _pixels(cells: tuple[slice, slice], patch: int, size: tuple[int, int]) -> tuple[Indices, ...]:
    """The rows and columns of pixels of cells; beyond frames of that (width, height) the last."""
    bounds = zip(cells, reversed(size), strict=True)
    return tuple(
        np.minimum(np.arange(span.start * patch, span.stop * patch), bound - 1)
        for span, bound in bounds
    )


def _cells(window: TimeWindow, grid: tuple[int, int]) -> tuple[slice, ...]:
    return (slice(window.first, window.end), *area_of(window.corner, grid))


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
) -> Tensor:
    """The hints of a clip whose key frames are these: at each unknown cell the last frame of its
    slot in which that is given; zeros if there is none."""
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
    return hints


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


def _with_work(
    windows: Sequence[TimeWindow], unknown: Tensor, grid: tuple[int, int]
) -> list[TimeWindow]:
    """The windows that have anything to draw when those before them are done."""
    left = unknown.clone()
    working = []
    for window in windows:
        cells = _cells(window, grid)
        if left[cells].any():
            working.append(window)
        left[cells] = False
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
            cells = self.prepared.cells(window)
            if self._unknown[cells].any():
                tokens, unknown = self._tokens[cells].clone(), self._unknown[cells].clone()
                hints = self.prepared.hints
                if hints is not None:
                    hints = hints[cells].flatten(0, 2) if hints[cells].any() else None
                return ClipWindow(window, self._part, tokens.flatten(), unknown.flatten(), hints)
            self._part += 1
        return None

    def finish(self, window: ClipWindow, tokens: Tensor) -> None:
        """Take the tokens (cells,) of the window."""
        cells = self.prepared.cells(window.window)
        drawn = torch.where(window.unknown, tokens, window.tokens)
        self._tokens[cells] = drawn.view_as(self._tokens[cells])
        self._unknown[cells] = False
        self._part += 1

    def frames(self, tokenizer: ClipTokenizer) -> Frames:
        """The frames (frames, height, width, 3) of the finished tokens, with what was known."""
        edit, plan = self.prepared.edit, self.prepared.plan
        if edit is None or plan is None:
            return to_bytes(_decoded(tokenizer, self._tokens)[: self.prepared.frames])
        patch, frames = tokenizer.patch, edit.frames.copy()
        masked = MaskedPixels(pad_to_tokens(edit.mask, patch, plan.grid))
        row, column = np.divmod(masked.places, masked.mask.shape[1])
        here = (row < edit.size[1]) & (column < edit.size[0])  # and not beyond the frame
        row, column = row[here], column[here]
        for first in range(0, len(self._tokens), PART):
            # A slot is drawn from the one before it too.
            tokens = self._tokens[max(first - 1, 0) : first + PART]
            begin = tokenizer.frames(first) if first else 0
            span = slice(begin, tokenizer.frames(first + PART))
            if edit.masks[span].any():
                drawn = self._blended(tokenizer, tokens, masked)[min(first, 1) :, here]
                may_change = edit.masks[span, row, column][..., None]
                kept = frames[span, row, column]
                frames[span, row, column] = np.where(may_change, drawn[: len(kept)], kept)
        return frames

    def _blended(self, tokenizer: ClipTokenizer, tokens: Tensor, masked: MaskedPixels) -> Frames:
        """The masked pixels (frames, masked, 3) that tokens (slots, rows, columns) stand for, mixed
        from all corners as those of a picture are."""
        plan, patch = self.prepared.plan, tokenizer.patch
        assert plan is not None, "it is an edit"
        say = say_of_window(plan.grid[0] * patch, plan.grid[1] * patch)
        sums = np.zeros((tokenizer.frames(len(tokens)), len(masked.places), 3))
        says = np.zeros((len(masked.places), 1))
        for number in range(len(plan.corners)):
            rows, columns = plan.cells(number)
            inside, numbers = masked.within(pixels_of((rows, columns), patch))
            decoded = _decoded(tokenizer, tokens[:, rows, columns])
            sums[:, numbers] += say[inside] * decoded[:, inside]
            says[numbers] += say[inside]
        return to_bytes(sums / says)


def _decoded(tokenizer: ClipTokenizer, tokens: Tensor) -> NDArray[np.float32]:
    """The colours (frames, height, width, 3) of tokens (slots, rows, columns)."""
    decoded = tokenizer.decode_clips(tokens[None])[0]
    colours: NDArray[np.float32] = decoded.permute(0, 2, 3, 1).float().cpu().numpy()
    return colours
