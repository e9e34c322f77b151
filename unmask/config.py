"""Strict loading of nested dataclasses from JSON and TOML, and writing them back.

Written here because training must run on machines that have torch and little else; it knows
just what our configurations use: numbers, strings, booleans, tuples, tables of anything, literals,
options, and dataclasses inside dataclasses.
"""

import dataclasses
import json
import math
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from unmask.errors import MAX_SHOWN, ConfigError, RequestError, choices, shown

T = TypeVar("T")


def from_mapping(cls: type[T], values: object, where: str = "") -> T:
    """An instance of the dataclass ``cls``; raises ConfigError naming the field at fault."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or cls.__name__}: expected a table, got {shown(values)}")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, cls)) if field.init}
    for key in values:
        if key not in fields:
            raise ConfigError(f"{_join(where, str(key))}: unknown field; {choices(key, fields)}")
    parsed = {}
    for name, field in fields.items():
        if name in values:
            parsed[name] = convert(hints[name], values[name], _join(where, name))
            numbers = parsed[name] if isinstance(parsed[name], tuple) else (parsed[name],)
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                raise ConfigError(f"{_join(where, name)}: {parsed[name]}; give finite numbers")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(where, name)}: missing")
    try:
        return cls(**parsed)
    except (ValueError, RequestError) as error:
        raise ConfigError(f"{where or cls.__name__}: {error}") from error


def load(cls: type[T], path: Path) -> T:
    """The dataclass ``cls`` read from a ``.toml`` or ``.json`` file."""
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        return from_mapping(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def check_bounds(instance: object, **bounds: tuple[float, float]) -> None:
    """ValueError naming the first field of a dataclass, or entry of one, that does not lie from the
    least to the most that is given for it."""
    for name, (least, most) in bounds.items():
        value = getattr(instance, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not least <= number <= most:
                raise ValueError(f"{name}: {number}; the bounds are {least:g} and {most:g}")


def checked(param: str, kind: Any, value: object) -> Any:
    """The value of a request's field as the type ``kind``; RequestError names ``param``."""
    try:
        return convert(kind, value, param)
    except ConfigError as error:
        raise RequestError(str(error), param) from None


def save_json(instance: object, path: Path) -> None:
    """Write a dataclass as readable JSON."""
    text = json.dumps(dataclasses.asdict(cast(Any, instance)), indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def convert(kind: Any, value: object, where: str) -> Any:
    """The value as the type ``kind``; ConfigError naming ``where`` if it cannot be one."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (arg for arg in get_args(kind) if arg is not type(None))
        return convert(inner, value, where)
    if origin is Literal:
        if value not in get_args(kind):
            near = value[:MAX_SHOWN] if isinstance(value, str) else ""
            raise ConfigError(f"{where}: {shown(value)}; {choices(near, map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {shown(value)}")
        arguments = get_args(kind)
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(value) != len(kinds):
            raise ConfigError(f"{where}: {len(value)} values; expected {len(kinds)}")
        items = enumerate(zip(kinds, value, strict=True))
        return tuple(convert(inner, item, f"{where}[{i}]") for i, (inner, item) in items)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table, got {shown(value)}")
        return dict(value)
    if dataclasses.is_dataclass(kind):
        return from_mapping(cast(type, kind), value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{where}: {shown(value)} is too large for a number") from None
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        expected = "true or false" if kind is bool else kind.__name__
        raise ConfigError(f"{where}: expected {expected}, got {shown(value)}")
    return value
