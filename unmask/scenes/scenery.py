"""Painted backgrounds: the sky, grass, the sea and the night.

Each is drawn at any size from the same numbers, and ends at its right side as it begins at its
left, so that it may be shifted, and goes on in a picture beside it. Most of it is plain, for a
small tokenizer has codes for few things in front of a pattern.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.scenes.vocabulary import SCENERY

_FINER = 4  # drawn so many times larger, and averaged: edges are smooth
_CLOUD = ((-0.07, 0.02, 0.04), (0.0, 0.0, 0.055), (0.07, 0.02, 0.04))  # discs: places and radii
_STARS = ((0.0625, 0.1875), (0.3125, 0.3125), (0.5625, 0.0625), (0.1875, 0.6875), (0.6875, 0.5625))


def scenery(size: int, device: torch.device) -> Tensor:
    """All of ``SCENERY``, (scenes, 3, size, size) in [0, 1]."""
    axis = (torch.arange(size * _FINER, device=device) + 0.5) / (size * _FINER)
    y, x = axis[:, None], axis[None, :]
    large = torch.stack([_PAINTERS[name](x, y) for name in SCENERY])
    return F.avg_pool2d(large, _FINER)


def _plain(x: Tensor, y: Tensor, colour: tuple[int, int, int]) -> Tensor:
    paint = torch.tensor(colour, device=x.device)[:, None, None] / 255
    return paint.expand(3, y.shape[0], x.shape[1])


def _over(picture: Tensor, where: Tensor, colour: tuple[int, int, int]) -> Tensor:
    paint = torch.tensor(colour, device=picture.device)[:, None, None] / 255
    return torch.where(where, paint, picture)


def _across(x: Tensor, centre: float) -> Tensor:
    """How far right of a centre, on a picture whose right side joins its left."""
    return (x - centre + 0.5) % 1 - 0.5


def _disc(x: Tensor, y: Tensor, at: tuple[float, float], radius: float) -> Tensor:
    return _across(x, at[0]) ** 2 + (y - at[1]) ** 2 < radius**2


def _sky(x: Tensor, y: Tensor) -> Tensor:
    picture = _plain(x, y, (130, 190, 245))
    for left, top in ((0.1875, 0.1875), (0.6875, 0.5625)):
        for right, down, radius in _CLOUD:
            disc = _disc(x, y, (left + right, top + down), radius)
            picture = _over(picture, disc, (255, 255, 255))
    return picture


def _grass(x: Tensor, y: Tensor) -> Tensor:
    picture = _over(_plain(x, y, (195, 228, 250)), y > 0.5, (120, 195, 90))
    for left, ground in ((0.1875, 0.735), (0.6875, 0.735), (0.4375, 0.985), (0.9375, 0.985)):
        across = _across(x, left)
        blades = 0.08 - 3.2 * ((across + 0.5) % 0.0417 - 0.0208).abs()
        tuft = (across.abs() < 0.0625) & (y < ground) & (y > ground - blades)
        picture = _over(picture, tuft, (80, 155, 65))
    return picture


def _sea(x: Tensor, y: Tensor) -> Tensor:
    picture = _over(_plain(x, y, (210, 235, 250)), y > 0.375, (55, 130, 205))
    for left, top in ((0.125, 0.5625), (0.625, 0.5625), (0.375, 0.8125), (0.875, 0.8125)):
        across = _across(x, left)
        wave = top + 0.012 * torch.sin(2 * math.pi * 8 * across)
        crest = (across.abs() < 0.125) & ((y - wave).abs() < 0.014)
        picture = _over(picture, crest, (150, 205, 240))
    return picture


def _night(x: Tensor, y: Tensor) -> Tensor:
    picture = _plain(x, y, (28, 30, 75))
    moon = _disc(x, y, (0.8125, 0.1875), 0.1) & ~_disc(x, y, (0.855, 0.15), 0.085)
    picture = _over(picture, moon, (250, 230, 150))
    for at in _STARS:
        picture = _over(picture, _disc(x, y, at, 0.018), (245, 240, 200))
    return picture


_PAINTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sky": _sky,
    "grass": _grass,
    "sea": _sea,
    "night": _night,
}
