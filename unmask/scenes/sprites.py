"""A bank of sprites: small pictures with alpha, each with the part of it that takes a colour.

The bank is made once from a zip of emoji pictures (``SpriteBank.from_archive``) and kept as one
``.npz`` file of plain arrays; tests and first steps draw their own (``SpriteBank.of_shapes``).
"""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from unmask.errors import DataError, RequestError
from unmask.images import DATA_LIMITS, read_image

SIDE = 128
SHAPES = ("circle", "square", "triangle", "diamond", "ring", "cross")


@dataclass(frozen=True)
class SpriteBank:
    """``pixels`` is (sprites, 5, 128, 128) uint8: red, green, blue, alpha and the colourable part.

    ``noun_of`` and ``style_of`` index ``nouns`` and ``styles``; ``luminance`` is the typical
    brightness of the colourable part, against which shades are kept when a sprite is recoloured.
    """

    nouns: tuple[str, ...]
    styles: tuple[str, ...]
    pixels: Tensor
    noun_of: Tensor
    style_of: Tensor
    luminance: Tensor

    @classmethod
    def of_shapes(cls) -> "SpriteBank":
        """Six plain shapes, drawn here: enough for tests and for a first run without data."""
        sprites = [(_shape(name), name, "flat") for name in SHAPES]
        return cls._build(sprites)

    @classmethod
    def of_words(cls, nouns: tuple[str, ...]) -> "SpriteBank":
        """One sprite a noun that shows nothing: what is made up of it has words only."""
        count = len(nouns)
        return cls(
            nouns=nouns,
            styles=("",),
            pixels=torch.zeros(count, 5, 1, 1, dtype=torch.uint8),
            noun_of=torch.arange(count),
            style_of=torch.zeros(count, dtype=torch.long),
            luminance=torch.ones(count),
        )

    @classmethod
    def from_archive(
        cls, archive: Path, nouns: tuple[str, ...], styles: tuple[str, ...]
    ) -> "SpriteBank":
        """Read the pictures of an emoji archive whose ``captions.jsonl`` gives file, set and noun.

        Empty ``nouns`` or ``styles`` take them all.
        """
        try:
            sprites = list(_read_archive(archive, nouns, styles))
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RequestError,
            zipfile.BadZipFile,
        ) as error:
            raise DataError(f"{archive}: not a sprite archive: {error}") from error
        _check_found([noun for _, noun, _ in sprites], nouns, str(archive))
        bank = cls._build(sprites)
        return bank.only((), styles) if styles else bank

    @classmethod
    def load(cls, path: Path) -> "SpriteBank":
        """Read what ``save`` wrote."""
        try:
            # Opened here, because numpy leaves a file that is no whole zip open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(
                    nouns=tuple(map(str, arrays["nouns"])),
                    styles=tuple(map(str, arrays["styles"])),
                    pixels=torch.from_numpy(arrays["pixels"]),
                    noun_of=torch.from_numpy(arrays["noun_of"]),
                    style_of=torch.from_numpy(arrays["style_of"]),
                    luminance=torch.from_numpy(arrays["luminance"]),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a sprite bank: {error}") from error

    def only(self, nouns: tuple[str, ...], styles: tuple[str, ...]) -> "SpriteBank":
        """The sprites of these nouns and styles, the styles in this order; empty ones take all.
        Raises DataError."""
        named = [self.nouns[int(noun)] for noun in self.noun_of]
        styled = [self.styles[int(style)] for style in self.style_of]
        rows = [
            row
            for row, (noun, style) in enumerate(zip(named, styled, strict=True))
            if (not nouns or noun in nouns) and (not styles or style in styles)
        ]
        kept_nouns = sorted({named[row] for row in rows})
        there = {styled[row] for row in rows}
        kept_styles = [style for style in styles or sorted(there) if style in there]
        _check_found(kept_nouns, nouns, "the sprite bank")
        return SpriteBank(
            nouns=tuple(kept_nouns),
            styles=tuple(kept_styles),
            pixels=self.pixels[rows],
            noun_of=torch.tensor([kept_nouns.index(named[row]) for row in rows]),
            style_of=torch.tensor([kept_styles.index(styled[row]) for row in rows]),
            luminance=self.luminance[rows],
        )

    def save(self, path: Path) -> None:
        """Write the bank as compressed arrays (no pickle)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            nouns=np.array(self.nouns),
            styles=np.array(self.styles),
            pixels=self.pixels.numpy(),
            noun_of=self.noun_of.numpy(),
            style_of=self.style_of.numpy(),
            luminance=self.luminance.numpy(),
        )

    @classmethod
    def _build(cls, sprites: list[tuple[Image.Image, str, str]]) -> "SpriteBank":
        nouns = tuple(sorted({noun for _, noun, _ in sprites}))
        styles = tuple(sorted({style for _, _, style in sprites}))
        layers, luminance = zip(*(_layers(picture) for picture, _, _ in sprites), strict=True)
        return cls(
            nouns=nouns,
            styles=styles,
            pixels=torch.from_numpy(np.stack(layers)),
            noun_of=torch.tensor([nouns.index(noun) for _, noun, _ in sprites]),
            style_of=torch.tensor([styles.index(style) for _, _, style in sprites]),
            luminance=torch.tensor(luminance, dtype=torch.float32),
        )


def _check_found(found: list[str], wanted: tuple[str, ...], where: str) -> None:
    if missing := set(wanted) - set(found) or (not found and {"any noun"}):
        raise DataError(f"{where}: no sprite for {', '.join(sorted(missing))}")


def _read_archive(
    archive: Path, nouns: tuple[str, ...], styles: tuple[str, ...]
) -> Iterator[tuple[Image.Image, str, str]]:
    with zipfile.ZipFile(archive) as files:
        for row in map(json.loads, files.read("captions.jsonl").decode().splitlines()):
            noun, style = row["scene_noun"], row["set"]
            if noun is None or (nouns and noun not in nouns) or (styles and style not in styles):
                continue
            # A member's length is known before it is unpacked, which may take far more memory.
            if (size := files.getinfo(row["file"]).file_size) > DATA_LIMITS.max_bytes:
                raise DataError(
                    f"{archive}: {row['file']} has {size} bytes; the bound is "
                    f"{DATA_LIMITS.max_bytes}"
                )
            picture = read_image(files.read(row["file"]), row["file"], DATA_LIMITS)
            yield _fit(picture.convert("RGBA")), noun, style


def _fit(picture: Image.Image) -> Image.Image:
    """The visible part, scaled to fill the square: boxes of the truth then mean the object."""
    picture = picture.crop(picture.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox())
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    square = Image.new("RGBA", (SIDE, SIDE))
    offset = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    square.paste(picture.resize(size, Image.Resampling.LANCZOS), offset)
    return square


def _layers(picture: Image.Image) -> tuple[NDArray[np.uint8], float]:
    """The five layers of a sprite, and the typical luminance of its colourable part."""
    pixels = np.asarray(picture, dtype=np.float32) / 255
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    hsv = np.asarray(picture.convert("RGB").convert("HSV"), dtype=np.float32) / 255
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    vivid = (saturation > 0.3) & (value > 0.25) & (alpha > 0.5)
    histogram, _ = np.histogram(hue[vivid], bins=36, range=(0, 1))
    smooth = histogram + np.roll(histogram, 1) + np.roll(histogram, -1)
    main = (smooth.argmax() + 0.5) / 36
    distance = np.abs((hue - main + 0.5) % 1 - 0.5)
    tint = ((distance < 0.12) & (saturation > 0.2) & (alpha > 0)).astype(np.float32)
    if (tint * alpha).sum() < 0.5 * alpha.sum():
        # Grey, white or many-coloured: all of it takes the colour, but for the darkest lines.
        tint = np.clip((rgb.max(-1) - 0.15) / 0.15, 0, 1)
    luminance = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    chosen = luminance[(tint > 0.5) & (alpha > 0.5)]
    layers = np.concatenate([rgb, alpha[..., None], tint[..., None]], -1)
    # A black sprite has no part that could take a colour, and so no brightness of it.
    brightness = float(np.median(chosen)) if len(chosen) else 1.0
    return np.round(layers * 255).astype(np.uint8).transpose(2, 0, 1), brightness


def _shape(name: str) -> Image.Image:
    picture = Image.new("RGBA", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    far, middle, third, fill = SIDE - 1, SIDE // 2, SIDE // 3, (210, 60, 60, 255)
    if name == "circle":
        draw.ellipse((0, 0, far, far), fill=fill)
    elif name == "square":
        draw.rectangle((0, 0, far, far), fill=fill)
    elif name == "triangle":
        draw.polygon([(middle, 0), (far, far), (0, far)], fill=fill)
    elif name == "diamond":
        draw.polygon([(middle, 0), (far, middle), (middle, far), (0, middle)], fill=fill)
    elif name == "ring":
        draw.ellipse((0, 0, far, far), outline=fill, width=third // 2 + 8)
    elif name == "cross":
        draw.rectangle((third, 0, far - third, far), fill=fill)
        draw.rectangle((0, third, far, far - third), fill=fill)
    else:
        raise ValueError(f"no such shape: {name}")
    return picture
