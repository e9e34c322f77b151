"""Editing: a picture of any size is drawn over, window by window, with a model of one small grid.

A token that has a masked pixel is drawn anew; all others are known and only tell the model what
lies around. The pixels outside the mask come back byte for byte, whatever the tokenizer does.
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unmask.errors import RequestError
from unmask.images import upright
from unmask.tokenizers.base import Tokenizer

MAX_PIXELS = 1 << 21  # of a result: each window of it is a run of the model
MAX_FEATHER = 256
DEFAULT_SHARE = 0.5
DEFAULT_STRENGTH = 0.5
OPAQUE = 255

Kind = Literal["inpaint", "outpaint", "image_to_image", "variation", "revise"]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Corner = tuple[int, int]  # row and column, in tokens, of a window's first token


class Window(NamedTuple):
    """A window of the picture that waits to be drawn: its tokens (cells,) int64, row by row, and
    which of them are unknown (cells,) bool. The unknown ones hold what the picture has there."""

    tokens: Tensor
    unknown: Tensor
    part: int
    parts: int  # windows in all, of which those with nothing to draw are left out


@dataclass(frozen=True, eq=False)
class Edit:
    """A picture to be drawn over; make one with the functions below.

    Values out of bounds raise RequestError, whose ``param`` is the field of that function.
    """

    kind: Kind
    pixels: Bytes  # (height, width, 3), or 4 if any is not opaque
    mask: Mask  # (height, width), True where pixels may change
    feather: int = 0  # px inside the mask over which what was there turns into what is drawn
    strength: float = 1.0  # share of the masked tokens that are drawn anew; the others are kept
    share: float | None = None  # of the tokens that "revise" masks at a time; None: another kind

    def __post_init__(self) -> None:
        height, width = self.mask.shape
        if self.pixels.shape[:2] != self.mask.shape:
            raise RequestError(
                f"mask: it has {width}x{height} pixels, but the image "
                f"{self.pixels.shape[1]}x{self.pixels.shape[0]}; make them alike",
                "mask",
            )
        if width * height > MAX_PIXELS:
            raise RequestError(
                f"image: the result has {width}x{height} pixels; the bound is {MAX_PIXELS}", "image"
            )
        if not self.mask.any():
            raise RequestError("mask: it selects nothing, so there is nothing to draw", "mask")
        if not 0 <= self.feather <= MAX_FEATHER:
            raise RequestError(
                f"feather is {self.feather}; it must lie between 0 and {MAX_FEATHER}", "feather"
            )
        for name, value in (("strength", self.strength), ("share", self.share)):
            if value is not None and not 0 < value <= 1:
                raise RequestError(f"{name} is {value}; it must lie above 0, up to 1", name)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        height, width = self.mask.shape
        return width, height

    @property
    def keeps_alpha(self) -> bool:
        """Whether there is transparency outside the mask: then the result is RGBA, else RGB."""
        return self.pixels.shape[2] == 4 and bool((self.pixels[~self.mask, 3] < OPAQUE).any())

    @property
    def blind(self) -> bool:
        """Whether nothing that lies under the mask may be seen in the result."""
        return self.share is None and self.strength == 1

    def summary(self) -> dict[str, Any]:
        """What tells this edit from another, without its pixels: for logs, answers and files."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(self.pixels.tobytes() + self.mask.tobytes())
        values = {"kind": self.kind, "feather": self.feather, "sha256": digest.hexdigest()}
        return values | (
            {"strength": self.strength} if self.share is None else {"share": self.share}
        )


def inpaint(image: Image.Image, mask: Image.Image | None = None, feather: int = 0) -> Edit:
    """Draw anew what the mask selects, unseen; None: where the image itself has alpha 0.

    A mask with an alpha channel selects where alpha is 0; one without, where it is white (128 and
    more of 255). So a mask with an alpha channel that is opaque selects nothing, and is refused.
    """
    pixels = _pixels(image)
    if mask is None:
        if pixels.shape[2] == 3 or not (selected := pixels[..., 3] == 0).any():
            raise RequestError(
                "mask: it is needed, as the image has no pixel of alpha 0 to be drawn", "mask"
            )
        return Edit("inpaint", pixels, selected, feather)
    return Edit("inpaint", pixels, _selected(mask, pixels), feather)


def outpaint(
    image: Image.Image,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    feather: int = 0,
) -> Edit:
    """Draw so many pixels more on each side of the image."""
    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    for side, value in sides.items():
        if not 0 <= value <= MAX_PIXELS:
            raise RequestError(f"{side} is {value}; it must lie between 0 and {MAX_PIXELS}", side)
    if not any(sides.values()):
        raise RequestError(f"left: all of {', '.join(sides)} are 0; give one of them", "left")
    inner = _pixels(image)
    height, width = inner.shape[0] + top + bottom, inner.shape[1] + left + right
    if width * height > MAX_PIXELS:
        widest = max(sides, key=lambda side: sides[side])
        raise RequestError(
            f"{widest} is {sides[widest]}: the result has {width}x{height} pixels; the bound is "
            f"{MAX_PIXELS}",
            widest,
        )
    around = ((top, bottom), (left, right))
    if inner.shape[2] == 3:
        inner = np.dstack([inner, np.full(inner.shape[:2], OPAQUE, np.uint8)])
    pixels = np.pad(inner, (*around, (0, 0)))  # alpha 0: there is nothing to be seen yet
    mask = np.pad(np.zeros(inner.shape[:2], bool), around, constant_values=True)
    return Edit("outpaint", pixels, mask, feather)


def image_to_image(
    image: Image.Image, strength: float, mask: Image.Image | None = None, feather: int = 0
) -> Edit:
    """Draw anew so large a share of the tokens, chosen at random; None: of the whole image."""
    pixels = _pixels(image)
    return Edit("image_to_image", pixels, _selected(mask, pixels), feather, strength)


def variation(image: Image.Image, strength: float = DEFAULT_STRENGTH) -> Edit:
    """``image_to_image`` under the name that it has when there is no prompt."""
    pixels = _pixels(image)
    return Edit("variation", pixels, _selected(None, pixels), strength=strength)


def revise(
    image: Image.Image,
    share: float = DEFAULT_SHARE,
    mask: Image.Image | None = None,
    feather: int = 0,
) -> Edit:
    """Change the image towards the prompt without a mask: its tokens are the start, and so large
    a share of them is masked and drawn again at every step. A mask bounds where.
    """
    pixels = _pixels(image)
    return Edit("revise", pixels, _selected(mask, pixels), feather, share=share)


def masked_cells(edit: Edit, patch: int, grid: tuple[int, int]) -> Mask:
    """Which tokens of the picture, padded to at least a window of the grid, hold masked pixels."""
    mask = _padded(edit.mask, patch, grid)
    rows, columns = mask.shape[0] // patch, mask.shape[1] // patch
    cells: Mask = np.logical_or.reduce(mask.reshape(rows, patch, columns, patch), axis=(1, 3))
    return cells


def plan_windows(masked: Mask, grid: tuple[int, int]) -> list[Corner]:
    """Corners of windows that hold every masked token, in the order to draw them in.

    A blot of masked tokens that fits into a window is drawn in one, in its middle; a larger one in
    windows that overlap by half. Of these the next is always the one with the most tokens known
    or drawn, so that what is drawn grows out of what is there.
    """
    open_cells = masked.copy()
    corners: list[Corner] = []
    for top, bottom, left, right in _blots(masked):
        rows = _spread(top, bottom, grid[0], masked.shape[0])
        columns = _spread(left, right, grid[1], masked.shape[1])
        while (counts := _count_in_windows(open_cells, rows, columns, grid)).any():
            fewest = int(np.where(counts > 0, counts, masked.size + 1).argmin())
            row, column = rows[fewest // len(columns)], columns[fewest % len(columns)]
            open_cells[row : row + grid[0], column : column + grid[1]] = False
            corners.append((row, column))
    return corners


def draw_edit(
    edit: Edit,
    tokenizer: Tokenizer,
    grid: tuple[int, int],
    choose: Callable[[int], Tensor],
    device: torch.device | str = "cpu",
) -> Generator[Window, Tensor, Image.Image]:
    """Yields one window after another, and is sent back its finished tokens (cells,); known ones
    are taken as they were. Returns the picture with what the edit masks drawn, RGB or, if it keeps
    alpha, RGBA.

    ``choose(count)`` gives uniforms in (0, 1), which pick the tokens that a strength below 1 draws
    anew. The tokenizer lives on ``device``.
    """
    patch, (rows, columns) = tokenizer.patch, grid
    mask, masked = _padded(edit.mask, patch, grid), masked_cells(edit, patch, grid)
    seen = _seen(edit)
    canvas = _padded(_filled(seen, ~edit.mask) if edit.blind else seen, patch, grid)
    unknown = _redrawn(masked, edit.strength, choose)
    tokens, finished = np.zeros(masked.shape, np.int64), np.zeros(masked.shape, bool)
    # Windows that overlap are averaged, each with less and less say towards its rim, where its
    # decoder sees nothing of what lies beyond.
    say = np.multiply.outer(_tent(rows * patch), _tent(columns * patch))[..., None].astype(float)
    sums, says = np.zeros(canvas.shape), np.zeros((*mask.shape, 1))
    corners = plan_windows(masked, grid)
    for index, (row, column) in enumerate(corners):
        cells = np.s_[row : row + rows, column : column + columns]
        area = np.s_[
            row * patch : (row + rows) * patch, column * patch : (column + columns) * patch
        ]
        encoded = tokenizer.encode(_to_tensor(canvas[area], device))[0].cpu().numpy()
        now = np.where(finished[cells], tokens[cells], encoded)
        fresh = unknown[cells] & ~finished[cells]
        if fresh.any():
            start, where = torch.from_numpy(now).flatten(), torch.from_numpy(fresh).flatten()
            drawn = yield Window(start.to(device), where.to(device), index, len(corners))
            now = np.where(fresh, drawn.cpu().view(rows, columns).numpy(), now)
        tokens[cells] = now
        finished[cells] |= masked[cells]
        decoded = tokenizer.decode(torch.from_numpy(now)[None].to(device))[0]
        sums[area] += say * decoded.permute(1, 2, 0).double().cpu().numpy()
        says[area] += say
        canvas[area] = np.where(mask[area][..., None], sums[area] / says[area], canvas[area])
    height, width = edit.mask.shape
    return _composed(edit, seen, canvas[:height, :width])


def _pixels(image: Image.Image) -> Bytes:
    """(height, width, 3), or 4 if any pixel is not opaque."""
    pixels = np.asarray(upright(image, "image"))
    return pixels[..., :3] if pixels.shape[2] == 4 and (pixels[..., 3] == OPAQUE).all() else pixels


def _selected(mask: Image.Image | None, pixels: Bytes) -> Mask:
    """Where a mask image lets pixels change; everywhere without one."""
    if mask is None:
        return np.ones(pixels.shape[:2], bool)
    upright_mask = upright(mask, "mask")
    if upright_mask.mode == "RGBA":
        selected: Mask = np.asarray(upright_mask)[..., 3] == 0
        rule = "it has an alpha channel, and so selects the pixels of alpha 0, but has none; "
        remedy = "make them transparent, or send white pixels without an alpha channel"
    else:
        selected = np.asarray(upright_mask.convert("L")) >= 128
        rule = "it has no alpha channel, and so selects the white pixels, but has none; "
        remedy = "paint them white, or send it with an alpha channel that is 0 there"
    if not selected.any():
        raise RequestError(f"mask: {rule}{remedy}", "mask")
    return selected


def _tent(length: int) -> NDArray[np.int_]:
    """1, 2, 3 ... 3, 2, 1."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))


def _blots(masked: Mask) -> list[tuple[int, int, int, int]]:
    """The bounds (top, bottom, left, right) of each group of masked tokens that touch."""
    cells = [(int(row), int(column)) for row, column in np.argwhere(masked)]
    unvisited, blots = set(cells), []
    for first in cells:
        if first not in unvisited:
            continue
        unvisited.remove(first)
        blot = [first]
        for row, column in blot:  # grows while it is walked
            around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & unvisited
            unvisited -= around
            blot.extend(around)
        rows, columns = zip(*blot, strict=True)
        blots.append((min(rows), max(rows) + 1, min(columns), max(columns) + 1))
    return blots


def _spread(first: int, end: int, length: int, bound: int) -> list[int]:
    """Where windows of that length begin that cover first ... end - 1, overlap by half, stand out
    alike at both ends, and lie within 0 ... bound - 1.

    Together they stand out by a quarter of a window at least, where there is room: one that held
    masked tokens alone would see nothing of the picture that it goes on with.
    """
    stride, margin = max(length // 2, 1), max(length // 4, 1)
    count = 1 + max(-(-(end - first + margin - length) // stride), 0)
    whole = length + (count - 1) * stride
    begin = first - (whole - (end - first)) // 2
    begin = min(max(begin, 0), max(bound - whole, 0))
    return sorted({min(begin + i * stride, bound - length) for i in range(count)})


def _count_in_windows(
    cells: Mask, rows: list[int], columns: list[int], grid: tuple[int, int]
) -> NDArray[np.int_]:
    """How many of the cells are True in the window at each of the rows and columns."""
    sums = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    within_rows = sums[[row + grid[0] for row in rows]] - sums[rows]
    counts: NDArray[np.int_] = (
        within_rows[:, [column + grid[1] for column in columns]] - within_rows[:, columns]
    )
    return counts


def _padded(values: NDArray[Any], patch: int, grid: tuple[int, int]) -> NDArray[Any]:
    """(height, width, ...) with its rim repeated, up to whole tokens and at least one window."""
    sides = [
        (0, max(-(-length // patch), cells) * patch - length)
        for length, cells in zip(values.shape[:2], grid, strict=True)
    ]
    return np.pad(values, sides + [(0, 0)] * (values.ndim - 2), mode="edge")


def _seen(edit: Edit) -> Floats:
    """The colours (height, width, 3) in [0, 1]; where all is transparent, those around it."""
    colours = edit.pixels[..., :3] / 255
    return colours if edit.pixels.shape[2] == 3 else _filled(colours, edit.pixels[..., 3] > 0)


def _filled(colours: Floats, known: Mask) -> Floats:
    """The colours with the unknown ones made up of known ones around; mid grey if there are none.

    Each unknown pixel mixes the nearest known ones on its left, right, above and below, the nearer
    the more; what has none in its row and column comes from those filled before.
    """
    if not known.any():
        return np.full_like(colours, 0.5)
    while not known.all():  # at most two rounds: after one, a row and a column are all known
        sums, weights = np.zeros_like(colours), np.zeros((*known.shape, 1))
        for turn in range(4):
            turned, places = np.rot90(known, turn), np.arange(known.shape[turn % 2 - 1])
            nearest = np.maximum.accumulate(np.where(turned, places, -1), axis=1)
            weight = np.where(nearest < 0, 0, 1.0 / np.maximum(places - nearest, 1) ** 2)
            found = np.take_along_axis(np.rot90(colours, turn), nearest[..., None], axis=1)
            sums += np.rot90(found * weight[..., None], -turn)
            weights += np.rot90(weight[..., None], -turn)
        colours = np.where(known[..., None], colours, sums / np.where(weights > 0, weights, 1))
        known = known | (weights[..., 0] > 0)
    return colours


def _redrawn(masked: Mask, strength: float, choose: Callable[[int], Tensor]) -> Mask:
    """Which of the masked tokens are unknown: so large a share of them, but at least one."""
    if strength == 1:
        return masked
    places = np.flatnonzero(masked)
    order = choose(len(places)).cpu().argsort(stable=True).numpy()
    unknown = np.zeros_like(masked)
    unknown.flat[places[order[: max(1, round(strength * len(places)))]]] = True
    return unknown


def _to_tensor(pixels: Floats, device: torch.device | str) -> Tensor:
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None].to(device)


def _composed(edit: Edit, seen: Floats, drawn: Floats) -> Image.Image:
    """What is drawn inside the mask, what was sent outside of it."""
    weight = _depth(edit.mask, edit.feather)[..., None] / (edit.feather + 1)
    blended = seen * (1 - weight) + drawn * weight
    # In fp32, as text to image rounds: the same tokens are to be the same bytes.
    changed = (blended.astype(np.float32) * 255).round().astype(np.uint8)
    pixels = np.where(edit.mask[..., None], changed, edit.pixels[..., :3])
    if edit.keeps_alpha:
        alpha = np.where(edit.mask, np.uint8(OPAQUE), edit.pixels[..., 3])
        pixels = np.dstack([pixels, alpha])
    return Image.fromarray(pixels)


def _depth(mask: Mask, feather: int) -> Floats:
    """How many pixels inside the mask each lies, up to ``feather`` + 1; outside of it 0.

    The border of the picture is no edge of the mask.
    """
    deepest, places = feather + 1.0, np.arange(mask.shape[1])
    before = np.maximum.accumulate(np.where(mask, -np.inf, places), axis=1)
    behind = np.minimum.accumulate(np.where(mask, np.inf, places)[:, ::-1], axis=1)[:, ::-1]
    across = np.minimum(np.minimum(places - before, behind - places), deepest)
    rows = np.pad(across**2, ((feather, feather), (0, 0)), constant_values=deepest**2)
    nearest = np.full(mask.shape, deepest**2)
    for shift in range(2 * feather + 1):
        np.minimum(nearest, rows[shift:][: len(mask)] + (shift - feather) ** 2, out=nearest)
    depth: Floats = np.sqrt(nearest)
    return depth
