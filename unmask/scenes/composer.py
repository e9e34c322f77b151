"""Making up scenes: what stands where, in which colour, before anything is drawn.

Batch ``index`` depends on nothing but the seed and the index, so a run that is killed goes on with
the very scenes it would have seen. Some colour-noun pairs and some relations between nouns never
come up unless they are asked for: they test what a model makes of combinations that it has not met.
"""

import torch
from torch import Tensor

from unmask.errors import ConfigError
from unmask.scenes.seeds import batch_seed
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig, Scenes
from unmask.scenes.vocabulary import (
    BACKGROUNDS,
    COLOUR_NAMES,
    COLOURS,
    COUNT,
    KINDS,
    MORE_COLOURS,
    PAIR,
    PLACES,
    RELATIONS,
    SCENERY,
    SHADES,
    SINGLE,
    TRIO,
    held_out,
)

SHIFTS = 8  # places in which scenery may stand
_CENTRES = torch.tensor([[0.5, 0.5], [0.27, 0.5], [0.73, 0.5], [0.5, 0.27], [0.5, 0.73]])
# The colour of each background that is a shade too, and those that are none.
_SHADE_OF = torch.tensor(
    [COLOUR_NAMES.index(name) if name in SHADES else len(COLOUR_NAMES) for name in BACKGROUNDS]
)
_WITH_HUE = torch.tensor([i for i, name in enumerate(BACKGROUNDS) if name not in SHADES])
_ROWS = {
    1: torch.tensor([[0.5, 0.5]]),
    2: torch.tensor([[0.27, 0.5], [0.73, 0.5]]),
    3: torch.tensor([[0.27, 0.27], [0.73, 0.27], [0.5, 0.73]]),
    4: torch.tensor([[0.27, 0.27], [0.73, 0.27], [0.27, 0.73], [0.73, 0.73]]),
}


class SceneComposer:
    """Makes up scenes of the sprites of a bank.

    ``sprites_of`` holds the indices of the sprites of each noun. ConfigError if what is held out
    leaves a noun without a colour or a partner.
    """

    def __init__(self, bank: SpriteBank, config: SceneConfig) -> None:
        self.bank, self.config = bank, config
        percent = config.held_out_percent
        nouns, plain = bank.nouns, 1 - config.more_colours - config.shades
        weights = dict.fromkeys(COLOURS, plain / len(COLOURS))
        weights |= dict.fromkeys(SHADES, config.shades / len(SHADES))
        weights |= dict.fromkeys(MORE_COLOURS, config.more_colours / len(MORE_COLOURS))
        self._colour_weights = torch.tensor(
            [
                [weights[name] * (not held_out(percent, name, noun)) for name in COLOUR_NAMES]
                for noun in nouns
            ]
        )
        self._partner_weights = torch.tensor(
            [
                [[float(a != b and not held_out(percent, a, r, b)) for b in nouns] for a in nouns]
                for r in RELATIONS
            ]
        )
        if (self._colour_weights.sum(-1) == 0).any() or (self._partner_weights.sum(-1) == 0).any():
            raise ConfigError("held_out_percent: a noun is left with no colour or no partner")
        self.sprites_of = [(bank.noun_of == i).nonzero().flatten() for i in range(len(nouns))]
        # By noun and style; where a noun lacks a style, all that it has.
        choices = [
            of_style if len(of_style := sprites[bank.style_of[sprites] == style]) else sprites
            for sprites in self.sprites_of
            for style in range(len(bank.styles))
        ]
        self._choices = torch.nn.utils.rnn.pad_sequence(choices, batch_first=True)
        self._counts = torch.tensor([len(sprites) for sprites in choices])

    def compose(self, count: int, index: int) -> Scenes:
        """Batch ``index`` of ``count`` scenes."""
        random = torch.Generator().manual_seed(batch_seed(self.config.seed, index))
        trios, most = self.config.trios, max(self.config.most, 3 if self.config.trios else 2)

        def pick(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=random)

        weights = torch.zeros(len(KINDS))
        weights[: len(self.config.kinds)] = torch.tensor(self.config.kinds)
        kind = torch.multinomial(weights, count, True, generator=random)
        number = torch.where(kind == COUNT, 2 + pick(self.config.most - 1, count), 2)
        number = torch.where(kind == SINGLE, 1, number)
        number = torch.where(kind == TRIO, 3, number)
        relation, place = pick(len(RELATIONS), count), pick(len(PLACES), count)
        first = pick(len(self.bank.nouns), count)
        partner = torch.multinomial(
            self._partner_weights[relation, first], 1, generator=random
        ).squeeze(1)
        nouns = first.unsqueeze(1).repeat(1, most)
        nouns[:, 1] = torch.where(kind >= PAIR, partner, first)
        several = 2
        if trios:
            several = 3
            third = _third(len(self.bank.nouns), first, partner, random)
            nouns[:, 2] = torch.where(kind == TRIO, third, first)
        colours = torch.multinomial(
            self._colour_weights[nouns[:, :several].flatten()], 1, generator=random
        ).view(count, several)
        natural = torch.rand(count, several, generator=random) < self.config.natural
        colours = torch.where(natural, -1, colours)
        colours = torch.cat([colours, colours[:, :1].expand(-1, most - several)], 1)
        styles = len(self.bank.styles)
        style = pick(styles, count) if styles > 1 else torch.zeros(count, dtype=torch.long)
        sprites = self._choose_sprites(nouns, style, random)
        # Objects of one kind look alike: same sprite, same colour.
        alike = (kind < PAIR).unsqueeze(1)
        sprites = torch.where(alike, sprites[:, :1], sprites)
        colours = torch.where(alike, colours[:, :1], colours)
        boxes = _layout(kind, number, relation, place, most, random)
        if self.config.snap > 1:
            boxes = _snapped(boxes, self.config.snap / self.config.size)
        present = torch.arange(most) < number.unsqueeze(1)
        painted = torch.rand(count, 1, generator=random) < self.config.painted
        painting = torch.rand(count, 5, generator=random) * painted
        colours = torch.where(present, colours, -1)
        background = _clear_of(colours, pick(len(BACKGROUNDS), count))
        shift = torch.zeros_like(background)
        if self.config.scenery:
            chosen = torch.rand(count, generator=random) < self.config.scenery
            scenery = len(BACKGROUNDS) + pick(len(SCENERY), count)
            background = torch.where(chosen, scenery, background)
            shift = torch.where(chosen, pick(SHIFTS, count), 0)
        return Scenes(
            kind=kind,
            background=background,
            relation=torch.where(kind == PAIR, relation, -1),
            place=torch.where(kind == SINGLE, place, -1),
            sprites=torch.where(present, sprites, -1),
            nouns=torch.where(present, nouns, -1),
            colours=colours,
            boxes=boxes * present.unsqueeze(-1),
            style=style,
            shift=shift,
            painting=painting,
        )

    def _choose_sprites(self, nouns: Tensor, style: Tensor, random: torch.Generator) -> Tensor:
        luck = torch.rand(nouns.shape, generator=random)
        row = nouns * len(self.bank.styles) + style.unsqueeze(1)
        return self._choices[row, (luck * self._counts[row]).long()]


def _third(nouns: int, first: Tensor, second: Tensor, random: torch.Generator) -> Tensor:
    """A noun that is neither of two others, which differ."""
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    chosen = torch.randint(max(nouns - 2, 1), first.shape, generator=random)
    chosen = chosen + (chosen >= low)
    return (chosen + (chosen >= high)) % nouns


def _clear_of(colours: Tensor, background: Tensor) -> Tensor:
    """Backgrounds of which no object of a scene has the shade: those become one with a hue."""
    hidden = (colours == _SHADE_OF[background].unsqueeze(1)).any(1)
    return torch.where(hidden, _WITH_HUE[background % len(_WITH_HUE)], background)


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
    single, mixed = kind == SINGLE, kind >= PAIR
    centres = torch.zeros(count, most, 2)
    for many, row in _ROWS.items():
        if many <= most:
            chosen = (number == many).nonzero().flatten()
            centres[chosen, :many] = row
    centres[single, 0] = _CENTRES[place[single]]
    # The first object of a pair is left of the second, or above it: swap x and y for the latter.
    upright = (kind == PAIR) & (relation == RELATIONS.index("above"))
    centres[upright] = centres[upright].flip(-1)
    base = torch.tensor([0.0, 0.5, 0.42, 0.42, 0.38])[number]
    base = torch.where(single & (place == PLACES.index("centre")), 0.72, base)
    side = base.unsqueeze(1) * (0.9 + 0.2 * torch.rand(count, most, generator=random))
    side = torch.where(mixed.unsqueeze(1), side, side[:, :1])
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
