"""Scenes that are partly broken on purpose, and what a judge should say of them.

A detector that has seen whole objects only finds one in any blob of the right colour. So some
objects are broken: half of them is another object, their parts are shuffled, they are bent or
blurred beyond recognition. Those are something, but not whole. And some are whole, but carry
two colours.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.devices import sent
from unmask.scenes import seeds
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.truth import Scenes

BREAKS = ("halves", "shuffled", "bent", "blurred")
PART = 8  # pixels: objects are shuffled in parts of this side, that of a token
# Mean change of the pixels below which nothing is broken: another half of the same look, or the
# parts of a plain square in another order.
VISIBLE = {"halves": 0.04, "shuffled": 0.01, "bent": 0.01, "blurred": 0.01}


class Truth(NamedTuple):
    """What the judge should say of the objects of a batch, absent ones with ``present`` false."""

    present: Tensor  # (batch, objects) bool
    whole: Tensor  # (batch, objects) bool
    boxes: Tensor  # (batch, objects, 4) in pixels
    nouns: Tensor  # (batch, objects, nouns): one of 1, or two of 1/2
    colours: Tensor  # (batch, objects, colours): 1 for each that it carries
    coloured: Tensor  # (batch, objects) bool: false for natural colours, which have no name
    background: Tensor  # (batch,)

    def to(self, device: torch.device) -> "Truth":
        """The same on a device."""
        return Truth(*(sent(tensor, device) for tensor in self))


def broken_scenes(
    renderer: SceneRenderer, count: int, index: int, share: float
) -> tuple[Tensor, Truth]:
    """Batch ``index`` of pictures (count, 3, size, size) in which a ``share`` of the objects was
    tampered with, and their truth.

    It depends on nothing but the renderer's seed, the index and the share.
    """
    scenes = renderer.composer.compose(count, index)
    seed = seeds.batch_seed(renderer.config.seed, index, seeds.BREAKS)
    random = torch.Generator().manual_seed(seed)
    images = renderer.render(scenes)
    donors = _donors(renderer, scenes, random)
    donor_images = renderer.render(donors)
    truth = _truth(renderer, scenes)
    donor_truth = _truth(renderer, donors)
    tampered = (torch.rand(truth.present.shape, generator=random) < share) & truth.present
    kinds = torch.randint(len(BREAKS) + 1, truth.present.shape, generator=random)
    for row, item in tampered.nonzero().tolist():
        left, top, right, bottom = truth.boxes[row, item].long().tolist()
        crop = images[row, :, top:bottom, left:right]
        # Halves are twice as frequent: that is how generators fail.
        kind = BREAKS[max(int(kinds[row, item]) - 1, 0)]
        if kind == "halves":
            broken = _halves(crop, donor_images[row, :, top:bottom, left:right], random)
        else:
            broken = {"shuffled": _shuffled, "bent": _bent, "blurred": _blurred}[kind](crop, random)
        if float((broken - crop).abs().mean()) < VISIBLE[kind]:
            continue
        # Interpolation may end a rounding error above white.
        images[row, :, top:bottom, left:right] = broken.clamp(0, 1)
        if kind == "halves":
            _mix(truth, donor_truth, row, item)
        else:
            truth.whole[row, item] = False
    return images, truth


def _truth(renderer: SceneRenderer, scenes: Scenes) -> Truth:
    """The truth of scenes in which nothing is broken."""
    present = scenes.nouns >= 0
    return Truth(
        present=present,
        whole=present.clone(),
        boxes=(scenes.boxes * renderer.config.size).round(),
        nouns=_one_hot(scenes.nouns, len(renderer.bank.nouns)),
        colours=_one_hot(scenes.colours, len(renderer.config.colours)),
        coloured=scenes.colours >= 0,
        background=scenes.background,
    )


def _mix(truth: Truth, donor: Truth, row: int, item: int) -> None:
    """Tell in ``truth`` that half of an object is the donor's: of two nouns it is not whole, of
    one it is whole in two colours."""
    if not truth.nouns[row, item].equal(donor.nouns[row, item]):
        truth.whole[row, item] = False
        truth.nouns[row, item] = (truth.nouns[row, item] + donor.nouns[row, item]) / 2
    truth.colours[row, item] = torch.maximum(truth.colours[row, item], donor.colours[row, item])
    truth.coloured[row, item] &= donor.coloured[row, item]


def _donors(renderer: SceneRenderer, scenes: Scenes, random: torch.Generator) -> Scenes:
    """The same boxes and background, filled with what halves are taken from: another noun in the
    same or another colour, or (one in three) the same noun in another colour."""
    shape, nouns = scenes.nouns.shape, len(renderer.bank.nouns)
    named = len(renderer.config.colours)
    shift = torch.randint(1, max(nouns, 2), shape, generator=random)
    same_noun = torch.rand(shape, generator=random) < 1 / 3
    other = torch.where(same_noun, scenes.nouns, (scenes.nouns + shift) % nouns)
    turn = torch.randint(1, named, shape, generator=random)
    same_colour = (torch.rand(shape, generator=random) < 0.5) & ~same_noun
    # A natural colour (-1) becomes a named one where it changes.
    colours = torch.where(same_colour, scenes.colours, (scenes.colours + turn) % named)
    choices = [renderer.composer.sprites_of[noun] for noun in other.flatten().tolist()]
    sprites = torch.stack(
        [
            sprites[int(torch.randint(2**31, (1,), generator=random)) % len(sprites)]
            for sprites in choices
        ]
    ).view(shape)
    sprites = torch.where(same_noun, scenes.sprites, sprites)
    present = scenes.nouns >= 0
    return replace(
        scenes,
        sprites=torch.where(present, sprites, -1),
        nouns=torch.where(present, other, -1),
        colours=torch.where(present, colours, -1),
    )


def _halves(crop: Tensor, other: Tensor, random: torch.Generator) -> Tensor:
    """The crop with its left, right, upper or lower half (40 to 60 %) from the other."""
    which, cut = torch.rand(2, generator=random).tolist()
    axis = 1 if which < 0.5 else 2
    length = crop.shape[axis]
    edge = round(length * (0.4 + 0.2 * cut))
    first = torch.arange(length, device=crop.device) < edge
    taken = first if which % 0.5 < 0.25 else ~first
    return torch.where(taken[:, None] if axis == 1 else taken, other, crop)


def _shuffled(crop: Tensor, random: torch.Generator) -> Tensor:
    """The crop with its parts of 8x8 pixels (or quarters) in another order, none where it was."""
    mixed, side = crop.clone(), min(PART, crop.shape[1] // 2)
    rows, columns = crop.shape[1] // side, crop.shape[2] // side
    places = [(y * side, x * side) for y in range(rows) for x in range(columns)]
    order = torch.randperm(len(places), generator=random).tolist()
    for target, source in zip(order, order[1:] + order[:1], strict=True):
        (y, x), (from_y, from_x) = places[target], places[source]
        part = crop[:, from_y : from_y + side, from_x : from_x + side]
        mixed[:, y : y + side, x : x + side] = part
    return mixed


def _bent(crop: Tensor, random: torch.Generator) -> Tensor:
    """The crop bent by up to half of its side, in waves of a third of it."""
    waves = torch.randn(1, 2, 4, 4, generator=random) * 0.4
    moved = F.interpolate(waves, crop.shape[1:], mode="bicubic", align_corners=True)
    axes = [torch.linspace(-1, 1, length) for length in crop.shape[1:]]
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = (torch.stack([x, y], -1) + moved[0].permute(1, 2, 0)).unsqueeze(0).to(crop.device)
    return F.grid_sample(
        crop.unsqueeze(0), grid, padding_mode="border", align_corners=True
    ).squeeze(0)


def _blurred(crop: Tensor, random: torch.Generator) -> Tensor:
    """The crop as a blob: three or four colours a side, smoothly joined."""
    coarse = 3 + int(torch.randint(2, (1,), generator=random))
    small = F.adaptive_avg_pool2d(crop.unsqueeze(0), coarse)
    return F.interpolate(small, crop.shape[1:], mode="bilinear").squeeze(0)


def _one_hot(values: Tensor, count: int) -> Tensor:
    """(..., count) of 0 and 1; all 0 where the value is -1."""
    return F.one_hot(values.clamp_min(0), count).float() * (values >= 0).unsqueeze(-1)
