"""From a model's name to a folder: bundled, local, or on a hub."""

import re
from pathlib import Path

from unmask.devices import Precision
from unmask.errors import ConfigError, NotFoundError, choices
from unmask.families import family_of

BUNDLED = Path(__file__).parent / "bundled"
HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
# What tells a family from another, and all that is small.
SMALL_FILES = ("*.json", "*.txt")


def available_models() -> list[str]:
    """The names of the models in the box."""
    return sorted(folder.parent.name for folder in BUNDLED.glob("*/model.json"))


def default_model() -> str:
    """The model that is used when none is named; NotFoundError if the box is empty."""
    for name in available_models():
        return name
    raise NotFoundError(f"{BUNDLED}: holds no model; name a folder", "model")


def local_model(model: str | Path) -> tuple[Path, str]:
    """The folder and the name of a model on this machine: a bundled name or a folder.

    NotFoundError tells the names in the box.
    """
    if str(model) in available_models():
        return BUNDLED / str(model), str(model)
    folder = Path(model)
    if not folder.is_dir():
        raise NotFoundError(
            f"model {str(model)!r}: neither a folder nor a known name; "
            f"{choices(str(model), available_models())}",
            "model",
        )
    return folder, folder.resolve().name


def find_model(model: str | Path, precision: Precision = "fp32") -> tuple[Path, str]:
    """The folder and the name of a model; OWNER/NAME is fetched from the hub if it is no folder.

    ``@`` and a branch, a tag or a commit may follow. What was fetched before comes from the hub's
    cache. ConfigError if the hub cannot be reached or has no such model.
    """
    published = HUB_ID.fullmatch(str(model))
    if str(model) in available_models() or Path(model).is_dir() or published is None:
        return local_model(model)
    name, revision = published.groups()
    small = _fetched(name, SMALL_FILES, revision)
    return _fetched(name, family_of(small).files(precision), revision), name


def _fetched(name: str, patterns: tuple[str, ...], revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ConfigError(
            f"model {name!r}: no such folder, and fetching from a hub needs huggingface_hub: "
            "pip install 'unmask[checkpoints]'"
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"model {name!r}: not a folder, and cannot be fetched from the hub: {reason}"
        ) from error
