"""Attention within windows of a clip's grid, instead of over all of it."""

import torch
from torch import Tensor

from unmask.models.attention import AttentionBackend

Window = tuple[int, int, int]


def check_window(window: Window, grid: tuple[int, ...]) -> None:
    """ValueError unless windows of that size fill clips of the grid, of any number of slots."""
    if window[0] not in (0, 1):
        raise ValueError(f"windows: {list(window)}; in slots give 1, or 0 for all of them")
    for size, axis in zip(window[1:], grid[1:], strict=True):
        if size < 0 or (size and axis % size):
            raise ValueError(f"windows: {list(window)}; give sizes that divide {list(grid[1:])}")


def windowed(
    attend: AttentionBackend,
    window: Window,
    grid: tuple[int, ...],
    own: tuple[Tensor, Tensor, Tensor],
    told: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """What the tokens of each window attend to among their own and the prefix: as ``attend``, of
    their queries, keys and values, and the keys, values and mask of the prefix."""
    query, key, value = (_cut(tensor, grid, window) for tensor in own)
    windows = len(query) // len(own[0])
    keys, values, mask = (tensor.repeat_interleave(windows, 0) for tensor in told)
    seen = torch.cat([mask, mask.new_ones(len(mask), key.shape[2])], 1)
    attended = attend(query, torch.cat([keys, key], 2), torch.cat([values, value], 2), seen)
    return _joined(attended, own[0].shape, grid, window)


def _cut(x: Tensor, grid: tuple[int, ...], window: Window) -> Tensor:
    """(rows, heads, tokens, head) as (rows x windows, heads, tokens of a window, head)."""
    rows, heads, tokens, head = x.shape
    split = x.reshape(rows, heads, *_split(tokens, grid, window), head)
    # (rows, slots, rows, columns of windows, heads, slots, rows, columns within, head)
    return split.permute(0, 2, 4, 6, 1, 3, 5, 7, 8).flatten(5, 7).flatten(0, 3)


def _joined(x: Tensor, shape: torch.Size, grid: tuple[int, ...], window: Window) -> Tensor:
    """The inverse of ``_cut`` for a tensor of that shape."""
    slots, a, rows, b, columns, c = _split(shape[2], grid, window)
    split = x.reshape(shape[0], slots, rows, columns, shape[1], a, b, c, shape[3])
    return split.permute(0, 4, 1, 5, 2, 6, 3, 7, 8).flatten(2, 7)


def _split(tokens: int, grid: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """The axes of a clip's tokens, each as windows and what lies within one."""
    sides = (tokens // (grid[-2] * grid[-1]), *grid[-2:])
    pairs = (
        (side // (size or side), size or side) for side, size in zip(sides, window, strict=True)
    )
    return tuple(number for pair in pairs for number in pair)
