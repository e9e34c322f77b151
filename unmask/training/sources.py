"""Where training pictures come from: rendered scenes, or any folder of captioned images.

Batch ``index`` of a source is always the same batch, so that a resumed run sees what the first
would have.
"""

import json
import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from unmask.errors import DataError
from unmask.scenes.captions import captions
from unmask.scenes.composer import SceneComposer
from unmask.scenes.data import DataConfig, open_bank
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.seeds import batch_seed
from unmask.scenes.truth import Scenes
from unmask.scenes.vocabulary import COLOUR_NAMES, held_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class Batch(NamedTuple):
    """``images`` (batch, 3, size, size) in [0, 1], and one caption each."""

    images: Tensor
    captions: list[str]


class Source(Protocol):
    """A deterministic stream of batches."""

    def batch(self, count: int, index: int) -> Batch:
        """``count`` pictures with captions; the same for the same ``index``."""
        ...


class SceneSource:
    """Endless rendered scenes."""

    def __init__(self, renderer: SceneRenderer) -> None:
        self.renderer = renderer

    def batch(self, count: int, index: int) -> Batch:
        images, scenes = self.renderer.draw(count, index)
        return self._captioned(images, scenes, index)

    def unseen(self, count: int, index: int) -> Batch:
        """At most ``count`` single objects in colours that ``batch`` never shows them in; none if
        nothing is held out."""
        bank, config = self.renderer.bank, self.renderer.config
        singles = replace(
            config, kinds=(1.0, 0.0, 0.0), natural=0.0, more_colours=0.0, held_out_percent=0
        )
        candidates = math.ceil(200 * count / max(config.held_out_percent, 1))
        scenes = SceneComposer(bank, singles).compose(candidates, index)
        pairs = zip(scenes.colours[:, 0].tolist(), scenes.nouns[:, 0].tolist(), strict=True)
        unseen = [
            row
            for row, (colour, noun) in enumerate(pairs)
            if held_out(config.held_out_percent, COLOUR_NAMES[colour], bank.nouns[noun])
        ]
        scenes = scenes.rows(torch.tensor(unseen[:count], dtype=torch.long))
        return self._captioned(self.renderer.render(scenes), scenes, index)

    def _captioned(self, images: Tensor, scenes: Scenes, index: int) -> Batch:
        seed = batch_seed(self.renderer.config.seed, index)
        return Batch(images, captions(scenes, self.renderer.bank.nouns, seed))


class FolderSource:
    """Captioned images of a folder, each epoch in another order.

    Captions stand in ``captions.jsonl``, a line ``{"file": ..., "caption": ...}`` or with
    ``"captions": [...]`` for each image, or in a ``.txt`` beside each image, one a line. Images are
    put on white, cropped to a square, scaled to ``size`` and kept in memory.
    """

    def __init__(self, folder: Path, size: int, seed: int, flip: bool, device: str) -> None:
        self.entries = _read_captions(folder)
        self.size, self.seed, self.flip, self.device = size, seed, flip, device
        self._cache: dict[Path, Tensor] = {}

    def batch(self, count: int, index: int) -> Batch:
        images, texts = [], []
        for position in range(index * count, (index + 1) * count):
            epoch, place = divmod(position, len(self.entries))
            path, choices = self.entries[self._order(epoch)[place]]
            random = np.random.default_rng((self.seed, position))
            image = self._read(path)
            images.append(image.flip(-1) if self.flip and random.random() < 0.5 else image)
            texts.append(choices[random.integers(len(choices))])
        return Batch(torch.stack(images).to(self.device).float() / 255, texts)

    @lru_cache(maxsize=2)  # noqa: B019 - a source lives as long as its run
    def _order(self, epoch: int) -> list[int]:
        order: list[int] = (
            np.random.default_rng((self.seed, epoch)).permutation(len(self.entries)).tolist()
        )
        return order

    def _read(self, path: Path) -> Tensor:
        if path not in self._cache:
            try:
                with Image.open(path) as image:
                    upright = ImageOps.exif_transpose(image).convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                opaque = Image.alpha_composite(white, upright).convert("RGB")
                square = ImageOps.fit(opaque, (self.size, self.size))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise DataError(f"{path}: cannot be read as an image") from error
            self._cache[path] = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        return self._cache[path]


def open_source(config: DataConfig, seed: int, device: str) -> SceneSource | FolderSource:
    """The source that ``config`` describes; another ``seed`` gives other batches."""
    size = config.scenes.size
    if config.kind == "folder":
        if config.path is None:
            raise DataError("data.path: name the folder of captioned images (--data)")
        return FolderSource(Path(config.path), size, seed, config.flip, device)
    scenes = replace(config.scenes, seed=config.scenes.seed + seed)
    return SceneSource(SceneRenderer(open_bank(config), scenes, device))


def _read_captions(folder: Path) -> list[tuple[Path, list[str]]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    listing = folder / "captions.jsonl"
    entries: list[tuple[Path, list[str]]] = []
    if listing.is_file():
        for number, line in enumerate(_read_lines(listing), 1):
            if line.strip():
                entries.append(_parse_line(folder, line, f"{listing}:{number}"))
    else:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                text = path.with_suffix(".txt")
                if not text.is_file():
                    raise DataError(
                        f"{path}: no caption; write one to {text.name} or to captions.jsonl"
                    )
                entries.append((path, _not_blank(_read_lines(text))))
    if not entries:
        raise DataError(f"{folder}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    for path, texts in entries:
        if not texts:
            raise DataError(f"{path}: its caption is empty")
        if not path.is_file():
            raise DataError(f"{path}: listed with a caption, but missing")
    return entries


def _parse_line(folder: Path, line: str, where: str) -> tuple[Path, list[str]]:
    try:
        row = json.loads(line)
        texts = row["captions"] if "captions" in row else [row["caption"]]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError(texts)
        return folder / row["file"], _not_blank(texts)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{where}: expected {{"file": ..., "caption": ...}}') from error


def _read_lines(path: Path) -> list[str]:
    try:
        # Not splitlines(): it also breaks at characters that may stand within a JSON string.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text") from error


def _not_blank(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if text.strip()]
