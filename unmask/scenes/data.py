"""What a model learns from, as a configuration says it; evaluations read the same."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unmask.errors import DataError
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig


@dataclass(frozen=True)
class DataConfig:
    """``scenes`` renders sprites of an archive or bank at ``path`` (plain shapes if there is none);
    ``folder`` reads captioned images below ``path``, without those that cannot be read if
    ``skip_unreadable``. Empty ``nouns`` and ``styles`` take all."""

    kind: Literal["scenes", "folder"]
    scenes: SceneConfig = field(default_factory=lambda: SceneConfig(size=64))
    path: str | None = None
    nouns: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    flip: bool = False
    skip_unreadable: bool = False


def open_bank(config: DataConfig) -> SpriteBank:
    """The sprites of ``config``: an archive, a bank made from one, or plain shapes."""
    if config.path is None:
        return SpriteBank.of_shapes()
    path = Path(config.path)
    if not path.is_file():
        raise DataError(f"{path}: no such sprite archive (.zip) or bank (.npz)")
    if path.suffix == ".npz":
        return SpriteBank.load(path).only(config.nouns, config.styles)
    return SpriteBank.from_archive(path, config.nouns, config.styles)
