"""Drawing an edit: what all images of a request share, and each image as it grows by windows.

A token that has a masked pixel is drawn anew; all others are known and only tell the model what
lies around. The pixels outside the mask come back byte for byte, whatever the tokenizer does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unmask.editing.edits import Edit, Indices, redrawn
from unmask.editing.paint import (
    Area,
    Feather,
    Floats,
    MaskedPixels,
    Paint,
    compose,
    feather_of,
    hide,
    pixels_of,
    say_of_window,
    seen_colours,
)
from unmask.editing.windows import (
    Corner,
    Grid,
    Names,
    Sharing,
    WindowPlan,
    pad_to_tokens,
    window_plan,
)
from unmask.tokenizers.base import Tokenizer


@dataclass(frozen=True, eq=False)
class Window:
    """A window of the picture that waits to be drawn: its tokens (cells,) int64, row by row, and
    which of them are unknown (cells,) bool. The unknown ones hold what the picture has there."""

    tokens: Tensor
    unknown: Tensor
    part: int  # its number in the order of the plan
    parts: int  # windows in all, of which those with nothing to draw are left out
    corner: Corner  # of the picture, padded to whole tokens
    names: Names  # of the prompt, that it draws


@dataclass(frozen=True, eq=False)
class PreparedEdit:
    """What all images of a request share; make it with ``prepare``. Nothing in it changes, so
    several threads may draw images of it at a time.
    """

    edit: Edit
    tokenizer: Tokenizer
    device: torch.device | str
    plan: WindowPlan
    masked: MaskedPixels  # of the padded picture
    canvas: Paint  # what windows see before any is drawn
    feather: Feather | None
    say: Floats  # (height, width, 1) of a window
    encoded: dict[int, Indices]  # the tokens (rows, columns) of windows that wait for no other

    def on(self, tokenizer: Tokenizer, device: torch.device | str) -> "PreparedEdit":
        """The same for another copy of the model, which may live on another device."""
        return replace(self, tokenizer=tokenizer, device=device)

    def image(self, choose: Callable[[int], Tensor]) -> "EditedImage":
        """An image that is yet to be drawn. ``choose(count)`` gives uniforms in (0, 1), which pick
        the tokens that a strength below 1 draws anew.
        """
        return EditedImage(self, choose)

    def area(self, window: int) -> Area:
        """Where a window lies, in pixels."""
        return pixels_of(self.plan.cells(window), self.tokenizer.patch)

    def encode(self, colours: NDArray[np.float32]) -> Indices:
        """The tokens (rows, columns) of a window's colours (height, width, 3)."""
        pixels = torch.from_numpy(np.ascontiguousarray(colours)).permute(2, 0, 1)[None]
        tokens: Indices = self.tokenizer.encode(pixels.to(self.device))[0].cpu().numpy()
        return tokens


def prepare(
    edit: Edit,
    tokenizer: Tokenizer,
    grid: Grid,
    device: torch.device | str = "cpu",
    sharing: Sharing | None = None,
) -> PreparedEdit:
    """Plan an edit for a model of that grid, (rows, columns), and encode the windows that can be
    drawn at once. The tokenizer lives on ``device``. Without ``sharing`` each window draws the
    whole prompt.

    RequestError if the grid is not of two axes.
    """
    patch = tokenizer.patch
    plan = window_plan(edit, patch, grid, sharing)
    seen = seen_colours(edit)
    prepared = PreparedEdit(
        edit,
        tokenizer,
        device,
        plan,
        MaskedPixels(pad_to_tokens(edit.mask, patch, grid)),
        # What is drawn replaces these colours, and is never summed with them.
        (hide(edit, seen) if edit.blind else seen).narrowed(),
        feather_of(edit, seen),
        say_of_window(plan.grid[0] * patch, plan.grid[1] * patch),
        {},
    )
    for window, waits in enumerate(plan.waits):
        if not waits:
            prepared.encoded[window] = prepared.encode(
                prepared.canvas.window(prepared.area(window))
            )
    return prepared


class EditedImage:
    """One image of a prepared edit: ``start`` it, ``finish`` every window that this and finishing
    others gives, in any order, and take the ``image``, which that order does not change.
    """

    def __init__(self, prepared: PreparedEdit, choose: Callable[[int], Tensor]) -> None:
        self.image: Image.Image | None = None  # until every window is finished
        self._prepared = prepared
        plan = prepared.plan
        self._unknown = redrawn(plan.masked, prepared.edit.strength, choose)
        self._tokens = np.zeros(plan.masked.shape, np.int64)
        self._waits = list(plan.waits)
        self._unfinished = set(range(len(plan.corners)))
        # Of all decoded windows, by masked pixel, in float64 and in the order of the plan: so the
        # bytes do not tell in which order windows were finished. Fresh zeros take no memory until
        # they are written.
        self._sums = np.zeros((len(prepared.masked.places), 3))
        self._says = np.zeros((len(prepared.masked.places), 1), np.int32)

    def start(self) -> list[Window]:
        """All windows that can be drawn now."""
        return self._open(part for part, waits in enumerate(self._waits) if not waits)

    def finish(self, window: Window, tokens: Tensor) -> list[Window]:
        """Take the tokens (cells,) of a window, of which the known ones are left as they were.
        Returns the windows that had to wait for it and can be drawn now.
        """
        plan = self._prepared.plan
        drawn, before = (each.cpu().numpy().reshape(plan.grid) for each in (tokens, window.tokens))
        unknown = window.unknown.cpu().numpy().reshape(plan.grid)
        # What it did not see may be drawn already.
        kept = ~unknown | (plan.first[plan.cells(window.part)] < window.part)
        return self._open(self._close(window.part, np.where(kept, before, drawn)))

    def _open(self, parts: Iterable[int]) -> list[Window]:
        """Those of the parts that have something to draw. The others are closed at once, and make
        way for what waits for them.
        """
        plan, windows, queue = self._prepared.plan, [], list(parts)
        for part in queue:  # grows while it is walked
            cells = plan.cells(part)
            first, names = plan.first[cells], plan.names[part]
            unknown = self._unknown[cells] & (first == part)
            drawn_before = plan.masked[cells] & (first < part)
            tokens = np.where(drawn_before, self._tokens[cells], self._encoded(part))
            if unknown.any():
                unknown |= first > part
                if names == range(0):
                    unknown |= plan.apart[cells]
                tensors = [torch.from_numpy(array).flatten() for array in (tokens, unknown)]
                start, where = (tensor.to(self._prepared.device) for tensor in tensors)
                corner, count = plan.corners[part], len(plan.corners)
                windows.append(Window(start, where, part, count, corner, names))
            else:
                queue += self._close(part, tokens)
        return windows

    def _encoded(self, part: int) -> Indices:
        """What the picture, as far as it is drawn, has in a window."""
        if part in self._prepared.encoded:
            return self._prepared.encoded[part]
        area = self._prepared.area(part)
        colours = self._prepared.canvas.window(area)
        masked, numbers = self._prepared.masked.within(area)
        says = self._says[numbers]
        drawn = says[:, 0] > 0
        rows, columns = (places[drawn] for places in np.nonzero(masked))
        colours[rows, columns] = self._sums[numbers[drawn]] / says[drawn]
        return self._prepared.encode(colours)

    def _close(self, part: int, tokens: Indices) -> list[int]:
        """Put a finished window into the picture. Returns the parts that have waited for it, and
        for no other any more.
        """
        prepared, area = self._prepared, self._prepared.area(part)
        self._unfinished.remove(part)
        self._tokens[prepared.plan.cells(part)] = tokens
        decoded = prepared.tokenizer.decode(torch.from_numpy(tokens)[None].to(prepared.device))[0]
        masked, numbers = prepared.masked.within(area)
        later = prepared.plan.first[prepared.plan.cells(part)] > part
        if later.any():  # it is drawn by another window
            patch = prepared.tokenizer.patch
            here = ~later.repeat(patch, 0).repeat(patch, 1)
            masked, numbers = masked & here, numbers[here[masked]]
        colours = decoded.permute(1, 2, 0).cpu().double().numpy()
        self._sums[numbers] += (prepared.say * colours)[masked]
        self._says[numbers] += prepared.say[masked].astype(np.int32)
        if not self._unfinished:
            self.image = compose(
                prepared.edit, prepared.feather, prepared.masked, self._sums, self._says
            )
            del self._sums, self._says
        followers = prepared.plan.followers[part]
        for follower in followers:
            self._waits[follower] -= 1
        return [follower for follower in followers if not self._waits[follower]]
