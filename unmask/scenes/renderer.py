"""Pictures of scenes: sprites on a background, drawn in batches with torch."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.devices import sent
from unmask.scenes.composer import SHIFTS, SceneComposer
from unmask.scenes.scenery import scenery
from unmask.scenes.sprites import SIDE, SpriteBank
from unmask.scenes.truth import SceneConfig, Scenes
from unmask.scenes.vocabulary import BACKGROUNDS, COLOURS, MORE_COLOURS, SHADES

SQUARE_CORNERS = 2**0.5 - 1  # how far they stick out, turned by half a quarter, in parts of a side


class _Stamp(NamedTuple):
    """The objects of one size that are drawn together, none onto another.

    ``numbers`` (objects, 11) are row, sprite, colour, box, corner of the window, opacity and turns.
    """

    level: Tensor
    window: int
    turned: bool
    numbers: Tensor


class SceneRenderer:
    """Draws scenes of a sprite bank on one device."""

    def __init__(self, bank: SpriteBank, config: SceneConfig, device: str = "cpu") -> None:
        self.bank, self.config, self.device = bank, config, torch.device(device)
        self.composer = SceneComposer(bank, config)
        self._levels = _mip_levels(bank, self.device)
        self._luminance = bank.luminance.to(self.device)
        palette = [*COLOURS.values(), *SHADES.values(), *MORE_COLOURS.values()]
        self._palette = torch.tensor(palette, device=self.device) / 255
        self._backgrounds = torch.tensor(list(BACKGROUNDS.values()), device=self.device) / 255
        self._grey = torch.tensor([0.299, 0.587, 0.114], device=self.device)
        self._scenery = scenery(config.size, self.device)

    def draw(self, count: int, index: int) -> tuple[Tensor, Scenes]:
        """Batch ``index`` of pictures, (count, 3, size, size) in [0, 1], and their truth."""
        scenes = self.composer.compose(count, index)
        return self.render(scenes), scenes

    def render(
        self, scenes: Scenes, alpha: Tensor | None = None, turns: Tensor | None = None
    ) -> Tensor:
        """The pictures (batch, 3, size, size) of ``scenes``, fp32 in [0, 1] on this device.

        ``alpha`` and ``turns`` (batch, objects) make objects transparent and turn them clockwise by
        quarter turns.
        """
        canvas = self._paint_backgrounds(scenes)
        stamps = list(self._stamps(scenes, alpha, turns))
        if stamps:
            # Sent together, for on a GPU each way takes its time.
            numbers = sent(torch.cat([stamp.numbers for stamp in stamps]), self.device)
            parts = torch.split(numbers, [len(stamp.numbers) for stamp in stamps])
            for stamp, part in zip(stamps, parts, strict=True):
                self._draw(canvas, stamp, part)
        return canvas

    def _stamps(
        self, scenes: Scenes, alpha: Tensor | None, turns: Tensor | None
    ) -> Iterator[_Stamp]:
        """What is drawn, in order."""
        for item in range(scenes.sprites.shape[1]):
            rows = (scenes.sprites[:, item] >= 0).nonzero().flatten()
            sides = (scenes.boxes[rows, item, 2] - scenes.boxes[rows, item, 0]) * self.config.size
            for side, level in self._levels.items():
                # The smallest level that is not enlarged: sampling neither blurs nor aliases.
                fits = (sides <= side) & (sides > side / 2)
                if side == SIDE:
                    fits |= sides > side
                if side == min(self._levels):
                    fits |= sides <= side / 2
                if len(chosen := rows[fits]):
                    yield self._stamp(scenes, item, chosen, level, alpha, turns)

    def _paint_backgrounds(self, scenes: Scenes) -> Tensor:
        size = self.config.size
        wild = scenes.background >= len(BACKGROUNDS)
        background = sent(torch.where(wild, 0, scenes.background), self.device)
        plain = self._backgrounds[background][:, :, None, None]
        if wild.any():
            return self._paint_scenery(scenes, wild, plain)
        if not scenes.painting.any():
            return plain.expand(-1, -1, size, size).contiguous()
        paint = sent(scenes.painting, self.device)[:, :, None, None]
        axis = torch.linspace(0, 1, size, device=self.device)
        y, x = axis[:, None], axis[None, :]
        slope = (x * (paint[:, 0] - 0.5) + y * (paint[:, 1] - 0.5)) * 0.3
        waves = (
            torch.sin((x * paint[:, 2] + y * (1 - paint[:, 2])) * 30 * paint[:, 3])
            * 0.05
            * paint[:, 4]
        )
        return (plain + (slope + waves).unsqueeze(1)).clamp(0, 1)

    def _paint_scenery(self, scenes: Scenes, wild: Tensor, plain: Tensor) -> Tensor:
        """The plain backgrounds, and scenery in the ``wild`` rows."""
        size, rows = self.config.size, wild.nonzero().flatten()
        columns = torch.arange(size) - (scenes.shift[rows] * size // SHIFTS).unsqueeze(1)
        which = sent(scenes.background[rows] - len(BACKGROUNDS), self.device)
        painted = self._scenery[which]
        across = sent(columns % size, self.device)[:, None, None, :].expand_as(painted)
        canvas = plain.expand(-1, -1, size, size).contiguous()
        canvas[sent(rows, self.device)] = painted.gather(3, across)
        return canvas

    def _stamp(
        self,
        scenes: Scenes,
        item: int,
        rows: Tensor,
        level: Tensor,
        alpha: Tensor | None,
        turns: Tensor | None,
    ) -> _Stamp:
        """One object of each of ``rows``, within a window that holds the largest."""
        size, box = self.config.size, scenes.boxes[rows, item]
        turn = torch.zeros(len(rows)) if turns is None else turns[rows, item]
        opacity = torch.ones(len(rows)) if alpha is None else alpha[rows, item]
        turning = bool((turn % 1 != 0).any())
        # Between quarter turns the corners of a square stick out of its box.
        margin = (box[:, 2:] - box[:, :2]) * (SQUARE_CORNERS / 2) if turning else 0.0
        longest = math.ceil(
            float((box[:, 2] - box[:, 0]).max()) * size * (1 + SQUARE_CORNERS * turning)
        )
        ids = torch.stack([rows, scenes.sprites[rows, item], scenes.colours[rows, item]], 1)
        places = (box, box[:, :2] - margin, opacity[:, None], turn[:, None])
        return _Stamp(
            level,
            min(size, max(level.shape[-1], longest) + 2),
            bool(turn.any()),
            torch.cat([ids.double(), *(place.double() for place in places)], 1),
        )

    def _draw(self, canvas: Tensor, stamp: _Stamp, numbers: Tensor) -> None:
        size = self.config.size
        rows, sprite, colour = numbers[:, :3].long().unbind(1)
        box, corner = numbers[:, 3:7].float(), numbers[:, 7:9].float()
        opacity, turn = numbers[:, 9:].float().unbind(1)
        window = torch.arange(stamp.window, device=self.device)
        start = (corner * size).long().clamp(0, size - len(window)).unsqueeze(-1) + window
        extent = (box[:, 2:] - box[:, :2])[..., None]
        # Where the pixels of the window fall in the sprite, whose sides are at -1 and 1.
        at = ((start + 0.5) / size - box[:, :2, None]) / extent * 2 - 1
        across = at[:, 0, None, :].expand(-1, len(window), -1)
        down = at[:, 1, :, None].expand(-1, -1, len(window))
        grid = torch.stack([across, down], -1)
        if stamp.turned:
            grid = _turned(grid, turn)
        layers = F.grid_sample(stamp.level[sprite], grid, align_corners=False)
        rgb = self._recoloured(layers, sprite, colour)
        alpha = layers[:, 3:4] * opacity[:, None, None, None]
        where = (rows[:, None, None], slice(None), start[:, 1, :, None], start[:, 0, None, :])
        under = canvas[where].permute(0, 3, 1, 2)
        canvas[where] = (under * (1 - alpha) + rgb * alpha).clamp(0, 1).permute(0, 2, 3, 1)

    def _recoloured(self, layers: Tensor, sprite: Tensor, colour: Tensor) -> Tensor:
        """The colours (rows, 3, height, width) of sprites whose colourable part has taken on
        ``colour`` (as they are where that is -1) and has kept its shades."""
        alpha, tint = layers[:, 3:4], layers[:, 4:5]
        rgb = layers[:, :3] / alpha.clamp_min(1e-3)
        weights = self._grey[:, None, None]
        shade = (rgb * weights).sum(1, True) / self._luminance[sprite][:, None, None, None]
        shade = shade.clamp(0.5, 1.5)
        target = self._palette[colour][:, :, None, None]
        tinted = torch.where(shade <= 1, target * shade, target + (1 - target) * (shade - 1))
        part = tint / alpha.clamp_min(1e-3) * (colour >= 0)[:, None, None, None]
        return rgb + (tinted - rgb) * part.clamp(0, 1)


def _turned(grid: Tensor, turns: Tensor) -> Tensor:
    """A sampling grid (rows, height, width, 2) that turns what it samples clockwise."""
    angle = turns * (math.pi / 2)
    cosine, sine = angle.cos().round(decimals=6), angle.sin().round(decimals=6)
    matrix = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return torch.einsum("rhwi,rij->rhwj", grid, matrix)


def _mip_levels(bank: SpriteBank, device: torch.device) -> dict[int, Tensor]:
    """The sprites at 128, 64, 32 and 16 pixels; premultiplied by alpha: edges stay clean."""
    pixels = bank.pixels.to(device).float() / 255
    alpha = pixels[:, 3:4]
    level = torch.cat([pixels[:, :3] * alpha, alpha, pixels[:, 4:5] * alpha], 1)
    levels = {SIDE: level}
    while (side := min(levels)) > 16:
        levels[side // 2] = F.avg_pool2d(levels[side], 2)
    return levels
