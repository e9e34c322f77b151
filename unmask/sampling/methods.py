"""How a method of sampling declares itself: a name in the registry of its kind, and its options.

A method is a frozen dataclass whose fields are its options, each with a meaning, bounds and a
default. ``unmask.sampling.options`` gathers them under flat names, from which the Python API, the
command line, HTTP and the docs take theirs. So a new method is one file, and one line that imports
it where its kind is gathered.
"""

from abc import ABC
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, get_type_hints

from unmask.errors import RequestError, look_up, shown


class Option(NamedTuple):
    """What a field of a method tells of itself. ``low`` and ``high`` bound a number, or every
    number of a tuple. A field that holds a method names the ``kind`` that it is chosen out of, by
    the kind's public name, and the one that it is by ``default``."""

    meaning: str
    low: float | None = None
    high: float | None = None
    kind: str = ""
    default: str = ""


def option(default: Any, meaning: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of a method: an option with its default."""
    return field(default=default, metadata={"option": Option(meaning, low, high)})


def method_option(kind: str, default: str, meaning: str) -> Any:
    """A field that holds another method, which a request chooses by the field's name out of a
    kind: the options of the chosen one are then options too."""
    return field(metadata={"option": Option(meaning, kind=kind, default=default)})


class DeclaredOption(NamedTuple):
    """An option as a class declares it."""

    name: str
    type: Any
    default: Any
    about: Option


@lru_cache(maxsize=256)
def declared_options(owner: type) -> tuple[DeclaredOption, ...]:
    """The options of a dataclass, in their order."""
    hints = get_type_hints(owner)
    return tuple(
        DeclaredOption(
            name=field_.name,
            # What a request gives for a method is its name.
            type=str if about.kind else hints[field_.name],
            default=about.default or field_.default,
            about=about,
        )
        for field_ in fields(owner)
        if isinstance(about := field_.metadata.get("option"), Option)
    )


class Method(ABC):
    """The base of every kind of method. A class that is given a ``name`` enters the registry of its
    kind, which is the dict ``registry`` of the kind's base class."""

    name: ClassVar[str] = ""
    registry: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, name: str = "") -> None:
        super().__init_subclass__()
        if name:
            cls.name = name
            cls.registry[name] = cls

    @property
    def idle_options(self) -> dict[str, str]:
        """Its options that do nothing as the others are set, and why, and how they would."""
        return {}


M = TypeVar("M", bound=Method)


@dataclass(frozen=True)
class Kind(Generic[M]):
    """A choice that a request makes by the public name ``param``, out of a registry of methods."""

    param: str
    methods: dict[str, type[M]]
    default: str
    meaning: str

    def method(self, name: str, param: str | None = None) -> type[M]:
        """The method of that name; RequestError lists the choices."""
        return look_up(param or self.param, self.methods, name)


def check_range(param: str, value: float, low: float, high: float) -> None:
    """Raise RequestError unless low <= value <= high; NaN and infinity never pass."""
    if not low <= value <= high:
        raise RequestError(
            f"{param} is {shown(value)}; it must lie between {low} and {high}", param
        )
