"""Scenes whose truth a machine can check: sprites on a background, drawn in batches with torch.

``draw(index)`` depends on nothing but the seed and the index, so a run that is killed goes on with
the very pictures it would have seen. Some colour-noun pairs and some relations between nouns are
never drawn unless they are asked for: they test what a model makes of combinations that it has not
met.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.errors import ConfigError
from unmask.training.seeds import batch_seed
from unmask.training.sprites import SIDE, SpriteBank

COLOURS = {
    "red": (222, 40, 44),
    "orange": (250, 130, 20),
    "yellow": (250, 215, 40),
    "green": (50, 165, 60),
    "blue": (40, 95, 225),
    "purple": (135, 60, 190),
    "pink": (250, 110, 180),
    "brown": (130, 80, 45),
}
# Drawn if a configuration asks for them (``more_colours``), never judged: a model that meets more
# colours makes more of combinations of the first eight that it has not met. Each lies 57 or more of
# 255 levels (Euclidean) from all of those, and the reduced tokenizer's codes hold them all.
MORE_COLOURS = {
    "lime": (160, 225, 40),
    "magenta": (215, 30, 150),
    "gold": (205, 160, 40),
    "coral": (250, 115, 95),
    "plum": (115, 40, 100),
    "tan": (190, 140, 95),
    "teal": (20, 125, 130),
    "maroon": (125, 20, 40),
}
COLOUR_NAMES = (*COLOURS, *MORE_COLOURS)
BACKGROUNDS = {
    "white": (250, 250, 250),
    "black": (25, 25, 30),
    "grey": (150, 150, 155),
    "blue": (150, 200, 250),
    "green": (165, 220, 160),
    "yellow": (255, 240, 165),
    "pink": (255, 200, 215),
    "purple": (205, 185, 240),
    "orange": (255, 205, 155),
    "brown": (190, 160, 130),
}
KINDS = ("single", "count", "pair")
RELATIONS = ("left of", "above")
PLACES = ("centre", "left", "right", "top", "bottom")
_CENTRES = torch.tensor([[0.5, 0.5], [0.27, 0.5], [0.73, 0.5], [0.5, 0.27], [0.5, 0.73]])
_ROWS = {
    1: torch.tensor([[0.5, 0.5]]),
    2: torch.tensor([[0.27, 0.5], [0.73, 0.5]]),
    3: torch.tensor([[0.27, 0.27], [0.73, 0.27], [0.5, 0.73]]),
    4: torch.tensor([[0.27, 0.27], [0.73, 0.27], [0.27, 0.73], [0.73, 0.73]]),
}


@dataclass(frozen=True)
class SceneConfig:
    """What scenes look like. ``kinds`` weighs single objects, counts and pairs.

    ``more_colours`` is the share of coloured objects whose colour is one of ``MORE_COLOURS``.
    ``snap`` puts the edges of objects onto multiples of so many pixels: fewer distinct patches to
    learn, for models that train on a CPU. 1 leaves them where they fall.
    """

    size: int
    seed: int = 0
    kinds: tuple[float, ...] = (0.4, 0.25, 0.35)
    most: int = 3
    natural: float = 0.2
    more_colours: float = 0.0
    painted: float = 0.0
    snap: int = 1
    held_out_percent: int = 8

    def __post_init__(self) -> None:
        if len(self.kinds) != len(KINDS) or min(self.kinds) < 0 or sum(self.kinds) <= 0:
            raise ValueError(f"kinds: give {len(KINDS)} weights, for {', '.join(KINDS)}")
        if self.size < 8:
            raise ValueError(f"size: {self.size} pixels; the least is 8")
        for name in ("natural", "more_colours", "painted"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)}; the bounds are 0 and 1")
        if self.snap < 1 or self.size % self.snap:
            raise ValueError(f"snap: {self.snap} does not divide the size, {self.size}")
        if self.most not in range(2, 5):
            raise ValueError(f"most: {self.most} objects of one kind; the bounds are 2 and 4")


@dataclass(frozen=True)
class Scenes:
    """The ground truth of a batch; absent objects and natural colours are -1, colours index
    ``COLOUR_NAMES``.

    ``boxes`` are (left, top, right, bottom) in parts of the side. ``relation`` holds between the
    first two objects of a pair, ``place`` is that of a single object.
    """

    kind: Tensor  # (batch,)
    background: Tensor  # (batch,)
    relation: Tensor  # (batch,) -1 unless a pair
    place: Tensor  # (batch,) -1 unless single
    sprites: Tensor  # (batch, objects)
    nouns: Tensor  # (batch, objects)
    colours: Tensor  # (batch, objects)
    boxes: Tensor  # (batch, objects, 4)
    painting: Tensor  # (batch, 5) tilt and strength of a painted background, zeros if plain


def held_out(percent: int, *words: str) -> bool:
    """Whether a combination of words belongs to the held-out part; fixed for ever by a hash."""
    digest = hashlib.sha256(" | ".join(words).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < percent


class SceneRenderer:
    """Draws scenes of a sprite bank on one device."""

    def __init__(self, bank: SpriteBank, config: SceneConfig, device: str = "cpu") -> None:
        self.bank, self.config, self.device = bank, config, torch.device(device)
        percent = config.held_out_percent
        nouns, share = bank.nouns, config.more_colours
        weights = dict.fromkeys(COLOURS, (1 - share) / len(COLOURS))
        if share:
            weights |= dict.fromkeys(MORE_COLOURS, share / len(MORE_COLOURS))
        self.colour_weights = torch.tensor(
            [
                [
                    weight * (not held_out(percent, colour, noun))
                    for colour, weight in weights.items()
                ]
                for noun in nouns
            ]
        )
        self.allowed_pairs = torch.tensor(
            [
                [[float(a != b and not held_out(percent, a, r, b)) for b in nouns] for a in nouns]
                for r in RELATIONS
            ]
        )
        if (self.colour_weights.sum(-1) == 0).any() or (self.allowed_pairs.sum(-1) == 0).any():
            raise ConfigError("held_out_percent: a noun is left with no colour or no partner")
        self.sprites_of = [(bank.noun_of == i).nonzero().flatten() for i in range(len(nouns))]
        self._levels = _mip_levels(bank, self.device)
        self._luminance = bank.luminance.to(self.device)
        palette = [*COLOURS.values(), *MORE_COLOURS.values()]
        self._palette = torch.tensor(palette, device=self.device) / 255
        self._backgrounds = torch.tensor(list(BACKGROUNDS.values()), device=self.device) / 255

    def draw(self, count: int, index: int) -> tuple[Tensor, Scenes]:
        """Batch ``index`` of pictures, (count, 3, size, size) in [0, 1], and their truth."""
        scenes = self.imagine(count, index)
        return self.render(scenes), scenes

    def imagine(self, count: int, index: int) -> Scenes:
        """The truth of batch ``index``, nothing drawn yet."""
        random = torch.Generator().manual_seed(batch_seed(self.config.seed, index))
        most, batch = max(self.config.most, 2), torch.arange(count)

        def pick(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=random)

        weights = torch.tensor(self.config.kinds, dtype=torch.float32)
        kind = torch.multinomial(weights, count, True, generator=random)
        number = torch.where(kind == 0, 1, torch.where(kind == 1, 2 + pick(most - 1, count), 2))
        relation, place = pick(len(RELATIONS), count), pick(len(PLACES), count)
        first = pick(len(self.bank.nouns), count)
        partner = torch.multinomial(self.allowed_pairs[relation, first], 1, generator=random)[:, 0]
        nouns = first.unsqueeze(1).repeat(1, most)
        nouns[:, 1] = torch.where(kind == 2, partner, first)
        colours = torch.multinomial(
            self.colour_weights[nouns[:, :2].flatten()], 1, generator=random
        ).view(count, 2)
        natural = torch.rand(count, 2, generator=random) < self.config.natural
        colours = torch.where(natural, -1, colours)
        colours = torch.cat([colours, colours[:, :1].expand(-1, most - 2)], 1)
        sprites = self._choose_sprites(nouns, random)
        # Objects of one kind look alike: same sprite, same colour.
        alike = (kind != 2).unsqueeze(1)
        sprites = torch.where(alike, sprites[:, :1], sprites)
        colours = torch.where(alike, colours[:, :1], colours)
        boxes = _layout(kind, number, relation, place, most, random)
        if self.config.snap > 1:
            boxes = _snapped(boxes, self.config.snap / self.config.size)
        present = torch.arange(most) < number.unsqueeze(1)
        painted = torch.rand(count, 1, generator=random) < self.config.painted
        painting = torch.rand(count, 5, generator=random) * painted
        return Scenes(
            kind=kind,
            background=pick(len(BACKGROUNDS), count),
            relation=torch.where(kind == 2, relation, -1),
            place=torch.where(kind == 0, place, -1),
            sprites=torch.where(present, sprites, -1),
            nouns=torch.where(present, nouns, -1),
            colours=torch.where(present, colours, -1),
            boxes=boxes * present.unsqueeze(-1),
            painting=painting[batch],
        )

    def render(self, scenes: Scenes) -> Tensor:
        """The pictures (batch, 3, size, size) of ``scenes``, fp32 in [0, 1] on this device."""
        canvas = self._paint_backgrounds(scenes)
        for slot in range(scenes.sprites.shape[1]):
            rows = (scenes.sprites[:, slot] >= 0).nonzero().flatten()
            sides = (scenes.boxes[rows, slot, 2] - scenes.boxes[rows, slot, 0]) * self.config.size
            for side, level in self._levels.items():
                # The smallest level that is not enlarged: sampling neither blurs nor aliases.
                fits = (sides <= side) & (sides > side / 2)
                if side == SIDE:
                    fits |= sides > side
                if side == min(self._levels):
                    fits |= sides <= side / 2
                if len(chosen := rows[fits]):
                    self._stamp(canvas, scenes, slot, chosen, level)
        return canvas

    def _choose_sprites(self, nouns: Tensor, random: torch.Generator) -> Tensor:
        luck = torch.rand(nouns.shape, generator=random)
        counts = torch.tensor([len(sprites) for sprites in self.sprites_of])
        table = torch.nn.utils.rnn.pad_sequence(self.sprites_of, batch_first=True)
        return table[nouns, (luck * counts[nouns]).long()]

    def _paint_backgrounds(self, scenes: Scenes) -> Tensor:
        size = self.config.size
        plain = self._backgrounds[scenes.background.to(self.device)][:, :, None, None]
        if not scenes.painting.any():
            return plain.expand(-1, -1, size, size).contiguous()
        paint = scenes.painting.to(self.device)[:, :, None, None]
        axis = torch.linspace(0, 1, size, device=self.device)
        y, x = axis[:, None], axis[None, :]
        slope = (x * (paint[:, 0] - 0.5) + y * (paint[:, 1] - 0.5)) * 0.3
        waves = (
            torch.sin((x * paint[:, 2] + y * (1 - paint[:, 2])) * 30 * paint[:, 3])
            * 0.05
            * paint[:, 4]
        )
        return (plain + (slope + waves).unsqueeze(1)).clamp(0, 1)

    def _stamp(
        self, canvas: Tensor, scenes: Scenes, slot: int, rows: Tensor, level: Tensor
    ) -> None:
        """Draw one object of each of ``rows``, within a window that holds the largest."""
        size, device = self.config.size, self.device
        box = scenes.boxes[rows, slot]
        longest = math.ceil(float((box[:, 2] - box[:, 0]).max()) * size)
        box = box.to(device)
        sprite = scenes.sprites[rows, slot].to(device)
        colour = scenes.colours[rows, slot].to(device)
        rows = rows.to(device)
        window = torch.arange(min(size, max(level.shape[-1], longest) + 2), device=device)
        start = (box[:, :2] * size).long().clamp(0, size - len(window)).unsqueeze(-1) + window
        at = ((start + 0.5) / size - box[:, :2, None]) / (box[:, 2:] - box[:, :2])[
            ..., None
        ] * 2 - 1
        across = at[:, 0, None, :].expand(-1, len(window), -1)
        down = at[:, 1, :, None].expand(-1, -1, len(window))
        grid = torch.stack([across, down], -1)
        layers = F.grid_sample(level[sprite], grid, align_corners=False)
        alpha, tint = layers[:, 3:4], layers[:, 4:5]
        rgb = layers[:, :3] / alpha.clamp_min(1e-3)
        weights = torch.tensor([0.299, 0.587, 0.114], device=device)[:, None, None]
        shade = (rgb * weights).sum(1, True) / self._luminance[sprite][:, None, None, None]
        target = self._palette[colour][:, :, None, None]
        shade = shade.clamp(0.5, 1.5)
        tinted = torch.where(shade <= 1, target * shade, target + (1 - target) * (shade - 1))
        part = tint / alpha.clamp_min(1e-3) * (colour >= 0)[:, None, None, None]
        rgb = rgb + (tinted - rgb) * part.clamp(0, 1)
        where = (rows[:, None, None], slice(None), start[:, 1, :, None], start[:, 0, None, :])
        under = canvas[where].permute(0, 3, 1, 2)
        canvas[where] = (under * (1 - alpha) + rgb * alpha).clamp(0, 1).permute(0, 2, 3, 1)


def _layout(
    kind: Tensor,
    number: Tensor,
    relation: Tensor,
    place: Tensor,
    most: int,
    random: torch.Generator,
) -> Tensor:
    """Boxes (batch, most, 4): large if alone, a row or a square if many, side by side if a pair."""
    count = len(kind)
    single = kind == 0
    centres = torch.zeros(count, most, 2)
    for many, row in _ROWS.items():
        if many <= most:
            chosen = (number == many).nonzero().flatten()
            centres[chosen, :many] = row
    centres[single, 0] = _CENTRES[place[single]]
    # The first object of a pair is left of the second, or above it: swap x and y for the latter.
    upright = (kind == 2) & (relation == 1)
    centres[upright] = centres[upright].flip(-1)
    base = torch.tensor([0.0, 0.5, 0.42, 0.42, 0.42])[number]
    base = torch.where(single & (place == 0), 0.72, base)
    side = base.unsqueeze(1) * (0.9 + 0.2 * torch.rand(count, most, generator=random))
    side = torch.where((kind == 2).unsqueeze(1), side, side[:, :1])
    room = torch.where(single, 0.05, 0.03).view(-1, 1, 1)
    centres = centres + (torch.rand(count, most, 2, generator=random) * 2 - 1) * room
    half = side.unsqueeze(-1) / 2
    centres = centres.clamp(half, 1 - half)
    return torch.cat([centres - half, centres + half], -1)


def _snapped(boxes: Tensor, unit: float) -> Tensor:
    """Boxes moved and resized to whole units, still square and inside the picture."""
    side = ((boxes[..., 2:] - boxes[..., :2]) / unit).round().clamp_min(1) * unit
    corner = (boxes[..., :2] / unit).round() * unit
    corner = torch.minimum(corner, 1 - side)
    return torch.cat([corner, corner + side], -1)


def _mip_levels(bank: SpriteBank, device: torch.device) -> dict[int, Tensor]:
    """The sprites at 128, 64, 32 and 16 pixels; premultiplied by alpha: edges stay clean."""
    pixels = bank.pixels.to(device).float() / 255
    alpha = pixels[:, 3:4]
    level = torch.cat([pixels[:, :3] * alpha, alpha, pixels[:, 4:5] * alpha], 1)
    levels = {SIDE: level}
    while (side := min(levels)) > 16:
        levels[side // 2] = F.avg_pool2d(levels[side], 2)
    return levels
