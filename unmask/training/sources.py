"""Where training pictures come from: rendered scenes, or any folder of captioned images.

Batch ``index`` of a source is always the same batch, so that a resumed run sees what the first
would have.
"""

import json
import math
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from tqdm import tqdm

from unmask.devices import sent
from unmask.errors import DataError, RequestError
from unmask.images import DATA_LIMITS, on_white, read_image
from unmask.scenes.captions import captions
from unmask.scenes.composer import SceneComposer
from unmask.scenes.data import DataConfig, open_bank
from unmask.scenes.renderer import SceneRenderer
from unmask.scenes.seeds import batch_seed
from unmask.scenes.truth import Scenes
from unmask.scenes.vocabulary import COLOUR_NAMES, held_out

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LISTINGS = {"captions.jsonl": ("file", "caption"), "metadata.jsonl": ("file_name", "text")}
SYSTEM_NAMES = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin")
MOST_LISTED = 20


class Composed(NamedTuple):
    """Scenes that are not drawn yet, and one caption each."""

    scenes: Scenes
    captions: list[str]


class Batch(NamedTuple):
    """``images`` (batch, 3, size, size) in [0, 1], and one caption each."""

    images: Tensor
    captions: list[str]


class Source(Protocol):
    """A deterministic stream of batches, each made up (on a CPU, in any process) and then drawn."""

    def compose(self, count: int, index: int) -> Any:
        """What ``draw`` draws, with its ``captions``."""
        ...

    def draw(self, composed: Any) -> Batch:
        """The pictures of what was composed."""
        ...

    def batch(self, count: int, index: int) -> Batch:
        """``count`` pictures with captions; the same for the same ``index``."""
        return self.draw(self.compose(count, index))


class SceneSource(Source):
    """Endless rendered scenes."""

    def __init__(self, renderer: SceneRenderer) -> None:
        self.renderer = renderer

    def compose(self, count: int, index: int) -> Composed:
        return self._captioned(self.renderer.composer.compose(count, index), index)

    def draw(self, composed: Composed) -> Batch:
        return Batch(self.renderer.render(composed.scenes), composed.captions)

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
        return self.draw(self._captioned(scenes, index))

    def _captioned(self, scenes: Scenes, index: int) -> Composed:
        seed, bank = batch_seed(self.renderer.config.seed, index), self.renderer.bank
        return Composed(scenes, captions(scenes, bank.nouns, seed, bank.styles))


class FolderSource(Source):
    """Captioned images of a folder, each epoch in another order; ``read_folder`` says which."""

    def __init__(self, pictures: "FolderPictures", seed: int, flip: bool, device: str) -> None:
        self.pictures = pictures
        self.seed, self.flip, self.device = seed, flip, device

    def compose(self, count: int, index: int) -> Batch:
        images, texts = [], []
        total = len(self.pictures.images)
        for position in range(index * count, (index + 1) * count):
            epoch, place = divmod(position, total)
            number = _order(self.seed, epoch, total)[place]
            image, choices = self.pictures.images[number], self.pictures.captions[number]
            random = np.random.default_rng((self.seed, position))
            images.append(image.flip(-1) if self.flip and random.random() < 0.5 else image)
            texts.append(choices[random.integers(len(choices))])
        return Batch(torch.stack(images), texts)

    def draw(self, composed: Batch) -> Batch:
        return composed._replace(
            images=sent(composed.images, torch.device(self.device)).float() / 255
        )


@lru_cache(maxsize=4)  # of two sources, as a batch may end one epoch and begin the next
def _order(seed: int, epoch: int, total: int) -> list[int]:
    order: list[int] = np.random.default_rng((seed, epoch)).permutation(total).tolist()
    return order


@dataclass(frozen=True, eq=False)
class FolderPictures:
    """The pictures of a folder, (3, size, size) uint8, and the captions of each, one or more."""

    images: list[Tensor]
    captions: list[list[str]]


# A run has several sources of one folder, which is read once.
_open_folders: WeakValueDictionary[tuple[Path, int, bool], FolderPictures] = WeakValueDictionary()


def open_source(config: DataConfig, seed: int, device: str) -> SceneSource | FolderSource:
    """The source that ``config`` describes; another ``seed`` gives other batches."""
    size = config.scenes.size
    if config.kind == "folder":
        if config.path is None:
            raise DataError("data.path: name the folder of captioned images (--data)")
        key = (Path(config.path), size, config.skip_unreadable)
        pictures = _open_folders.get(key)
        if pictures is None:
            pictures = _open_folders[key] = read_folder(*key)
        return FolderSource(pictures, seed, config.flip, device)
    if config.skip_unreadable:
        raise DataError("data.skip_unreadable: scenes are drawn; it is for kind = 'folder'")
    scenes = replace(config.scenes, seed=config.scenes.seed + seed)
    return SceneSource(SceneRenderer(open_bank(config), scenes, device))


def read_folder(folder: Path, size: int, skip_unreadable: bool = False) -> FolderPictures:
    """All captioned pictures of a folder, put on white, cropped to a square and scaled.

    Captions stand in ``captions.jsonl``, a line ``{"file": ..., "caption": ...}`` or with
    ``"captions": [...]`` for each picture; or as Hugging Face writes them, ``{"file_name": ...,
    "text": ...}`` in the ``metadata.jsonl`` of any folder in it; or in a ``.txt`` beside each
    picture, one a line. Hidden files and those of systems are passed over.

    DataError lists the pictures that cannot be read, or without a caption; ``skip_unreadable``
    goes on without the former, and says how many on stderr.
    """
    pictures, unreadable = FolderPictures([], []), []
    entries = _read_captions(folder)
    for path, texts in tqdm(entries, "reading pictures", unit="", leave=False, disable=None):
        try:
            pictures.images.append(_read_square(path, size))
            pictures.captions.append(texts)
        except RequestError as error:
            unreadable.append(str(error))
    if unreadable and not (skip_unreadable and pictures.images):
        raise DataError(
            f"{folder}: {len(unreadable)} of {len(entries)} pictures cannot be read; mend them, or "
            f"go on without them by --skip-unreadable:{_listed(unreadable)}"
        )
    if unreadable:
        tqdm.write(
            f"{folder}: going on without {len(unreadable)} of {len(entries)} pictures, which "
            f"cannot be read:{_listed(unreadable)}",
            file=sys.stderr,
        )
    return pictures


def _read_square(path: Path, size: int) -> Tensor:
    if not path.is_file():
        raise RequestError(f"{path}: listed with a caption, but missing")
    image = on_white(read_image(path, str(path), DATA_LIMITS))
    square = ImageOps.fit(image, (size, size))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _listed(problems: list[str]) -> str:
    """The first of the problems, a line each, and how many more there are."""
    more = len(problems) - MOST_LISTED
    lines = problems[:MOST_LISTED] + ([f"and {more} more"] if more > 0 else [])
    return "".join(f"\n  {line}" for line in lines)


def _read_captions(folder: Path) -> list[tuple[Path, list[str]]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    listing = folder / "captions.jsonl"
    listings = [listing] if listing.is_file() else _visible(folder, "metadata.jsonl")
    entries: list[tuple[Path, list[str]]] = []
    problems = []
    for listing in listings:
        for number, line in enumerate(_read_lines(listing), 1):
            if line.strip():
                entries.append(_parse_line(listing, line, f"{listing}:{number}"))
    for path in () if listings else _visible(folder, "*"):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            text = path.with_suffix(".txt")
            if text.is_file():
                entries.append((path, _not_blank(_read_lines(text))))
            else:
                problems.append(
                    f"{path}: no caption; write one to {text.name}, captions.jsonl or "
                    "metadata.jsonl"
                )
    problems += [f"{path}: its caption is empty" for path, texts in entries if not texts]
    if problems:
        raise DataError(f"{folder}: {len(problems)} pictures lack a caption:{_listed(problems)}")
    if not entries:
        raise DataError(f"{folder}: holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return entries


def _visible(folder: Path, pattern: str) -> list[Path]:
    """The files of that name in the folder and all below, but for what systems put there."""
    return [
        path
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
        and not any(
            part.startswith(".") or part.lower() in SYSTEM_NAMES
            for part in path.relative_to(folder).parts
        )
    ]


def _parse_line(listing: Path, line: str, where: str) -> tuple[Path, list[str]]:
    file, caption = LISTINGS[listing.name]
    try:
        row = json.loads(line)
        texts = row["captions"] if "captions" in row else row[caption]
        texts = [texts] if isinstance(texts, str) and "captions" not in row else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError(texts)
        return listing.parent / row[file], _not_blank(texts)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{where}: expected {{"{file}": ..., "{caption}": ...}}') from error


def _read_lines(path: Path) -> list[str]:
    try:
        # Not splitlines(): it also breaks at characters that may stand within a JSON string.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text") from error


def _not_blank(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if text.strip()]
