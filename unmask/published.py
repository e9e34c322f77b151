"""Configurations that others publish: of their many fields we read those that we depend on."""

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar, cast

from unmask.config import from_mapping
from unmask.errors import ConfigError

T = TypeVar("T")

MOST = 1 << 17  # of any size: a longer one is a slip, and would only be found after much work


def read_published(cls: type[T], path: Path) -> T:
    """The dataclass ``cls`` from a published JSON, whose other fields are left alone.

    A Literal tells what we can compute. ConfigError names the file and the field at fault.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a table, got {type(values).__name__}")
    names = {field.name for field in dataclasses.fields(cast(Any, cls))}
    try:
        return from_mapping(cls, {name: values[name] for name in values if name in names})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def check_sizes(settings: object) -> None:
    """ValueError unless every whole number of a dataclass, or in a tuple of it, is a size."""
    for field in dataclasses.fields(cast(Any, settings)):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int and not 1 <= number <= MOST:
                raise ValueError(f"{field.name}: {number} is no size; give 1 to {MOST}")
