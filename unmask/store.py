"""From a model's name to a folder: bundled, local, or on a hub."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from unmask.box import BUNDLED, available_models, draws_clips
from unmask.card import ModelCard
from unmask.devices import Precision
from unmask.errors import ConfigError, NotFoundError, RequestError, choices, shown
from unmask.families import family_of
from unmask.models.adapter import WITH, Adapter

HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
HUB_TIMEOUT_SECONDS = 10.0
# What tells a family from another, and all that is small.
SMALL_FILES = ("*.json", "*.txt")


class HubRequest(Protocol):
    """A request of the HTTP client, httpx or httpx2."""

    extensions: dict[str, Any]


def default_model(clips: bool = False) -> str:
    """The model that is used when none is named: the first in the box that draws pictures alone,
    or the first that draws clips. NotFoundError if there is none."""
    for name in available_models():
        if draws_clips(name) == clips:
            return name
    what = "clips" if clips else "pictures"
    raise NotFoundError(f"model: none in {BUNDLED} draws {what}; name a folder", "model")


def served_models(
    model: str | None, more: Sequence[str], adapters: Sequence[str] = ()
) -> tuple[str, ...]:
    """The models that a server has, the default one first: if that is not named, the first in the
    box that draws pictures, and the first that draws clips beside it. ``adapters`` are those of the
    default one."""
    first = default_model() if model is None else model
    names = [first, *more, *(f"{first}{WITH}{adapter}" for adapter in adapters)]
    if model is None:
        names += [name for name in available_models() if draws_clips(name)][:1]
    return tuple(dict.fromkeys(names))


def parted(model: str | Path) -> tuple[str, Adapter | None]:
    """A model without its adapter, and that: ``MODEL+PATH`` or ``MODEL+PATH@SCALE``. ConfigError
    for an adapter that is not there; what is no such thing has none."""
    given = _name(model)
    if given not in available_models() and not is_folder(given):
        for place, sign in enumerate(given):
            base = given[:place]
            here = base in available_models() or is_folder(base)
            if sign == WITH and (here or hub_id(base)):
                return base, Adapter.parse(given[place + 1 :])
    return given, None


def hub_id(model: str) -> "re.Match[str] | None":
    """OWNER/NAME of a hub, and the revision; None for a model that is here, or is no such name."""
    return None if model in available_models() or is_folder(model) else HUB_ID.fullmatch(model)


def local_model(model: str | Path) -> tuple[Path, str]:
    """The folder and the name of a model on this machine, whatever its adapter: a bundled name or
    a folder.

    NotFoundError, or RequestError for what is no name, tells the names in the box.
    """
    given, _ = parted(model)
    folder = Path(given)
    if given in available_models():
        return BUNDLED / given, given
    if not is_folder(given):
        raise NotFoundError(
            f"model {shown(given)}: neither a folder nor a known name; "
            f"{choices(given[:80], available_models())}",
            "model",
        )
    return folder, folder.resolve().name


def read_card(model: str | Path) -> ModelCard:
    """The card of a model that is on this machine, without loading its weights."""
    return card_of(*local_model(model), parted(model)[1])


def card_of(folder: Path, name: str, adapter: Adapter | None) -> ModelCard:
    """The card in a folder; with an adapter the model has another name than it knows of itself."""
    card = family_of(folder).card(folder, name)
    return card if adapter is None else replace(card, name=adapter.name_of(card.name))


def is_folder(name: str) -> bool:
    """Whether there is a folder of that name."""
    try:
        return bool(name) and Path(name).is_dir()
    except OSError:  # a name that is too long to be one
        return False


def _name(model: str | Path) -> str:
    """The model as it was named; RequestError for what is no name."""
    if not isinstance(model, str | Path):
        raise RequestError(
            f"model: expected a name or a folder, got {shown(model)}; "
            f"{choices('', available_models())}",
            "model",
        )
    return str(model)


def find_model(model: str | Path, precision: Precision = "fp32") -> tuple[Path, str]:
    """The folder and the name of a model, whatever its adapter; OWNER/NAME is fetched from the hub
    if it is no folder.

    ``@`` and a branch, a tag or a commit may follow. What was fetched before comes from the hub's
    cache. Weights that it has in another precision alone are fetched in that, as they are read from
    a folder. ConfigError if the hub cannot be reached, does not answer, or has no such model: to
    try again may help.
    """
    published = hub_id(parted(model)[0])
    if published is None:
        return local_model(model)
    name, revision = published.groups()
    family = family_of(_fetched(name, SMALL_FILES, revision))
    wanted = family.files(precision)
    folder = _fetched(name, wanted, revision)
    if lacking := _lacking(folder, wanted):
        others = family.files("fp32" if precision == "fp16" else "fp16")
        wanted = tuple(pattern for pattern in others if str(Path(pattern).parent) in lacking)
        folder = _fetched(name, wanted, revision)
    return folder, name


def _lacking(folder: Path, patterns: tuple[str, ...]) -> set[str]:
    """The folders in it for which there are patterns of weights, but no weights."""
    weights = [pattern for pattern in patterns if pattern.endswith(".safetensors")]
    found = {str(Path(pattern).parent) for pattern in weights if any(folder.glob(pattern))}
    return {str(Path(pattern).parent) for pattern in weights} - found


def _fetched(name: str, patterns: tuple[str, ...], revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ConfigError(
            f"model {name!r}: no such folder, and fetching from a hub needs huggingface_hub: "
            "pip install 'unmask[checkpoints]'"
        ) from error
    _bound_waiting()
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(patterns),
                etag_timeout=HUB_TIMEOUT_SECONDS,
            )
        )
    except Exception as error:  # its own errors, those of its HTTP client, OSError, ValueError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"model {name!r}: not a folder, and cannot be fetched from the hub: {reason}"
        ) from error


@cache
def _bound_waiting() -> None:
    """Give every request of the hub's HTTP client a timeout, for connecting and between bytes.

    It lists a repository without one, and says so in each request: a hub that accepts and never
    answers would be waited for without end.
    """
    from huggingface_hub import get_session, set_client_factory

    def bound(request: HubRequest) -> None:
        timeouts = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            phase: HUB_TIMEOUT_SECONDS if timeouts.get(phase) is None else timeouts[phase]
            for phase in ("connect", "read", "write", "pool")
        }

    session = get_session()
    client, hooks = type(session), session.event_hooks
    hooks = {**hooks, "request": [*hooks["request"], bound]}
    set_client_factory(lambda: client(event_hooks=hooks, follow_redirects=True, timeout=None))
