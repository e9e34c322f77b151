from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from unmask.errors import ConfigError
from unmask.published import MOST, check_sizes, read_published


@dataclass(frozen=True)
class Sizes:
    width: int
    channels: tuple[int, ...] = (4, 8)
    norm: Literal["group"] = "group"
    flag: bool = False
    share: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self)


def _written(folder: Path, text: str) -> Path:
    path = folder / "config.json"
    path.write_text(text)
    return path


def test_fields_that_we_do_not_know_are_left_alone(tmp_path: Path) -> None:
    path = _written(tmp_path, '{"width": 3, "_class_name": "Other", "channels": [1]}')
    assert read_published(Sizes, path) == Sizes(3, (1,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "width: missing"),
        ('{"width": 3, "norm": "spatial"}', "norm: 'spatial'.*group"),
        ('{"width": "3"}', "width: expected int"),
        ('{"width": 0}', "width: 0 is no size"),
        ('{"width": 3, "channels": [4, -1]}', "channels: -1 is no size"),
        (f'{{"width": {MOST + 1}}}', f"width: {MOST + 1} is no size"),
        ("[]", "expected a table"),
        ("{", "cannot be read"),
    ],
)
def test_the_file_and_the_field_at_fault_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.json: .*{told}"):
        read_published(Sizes, _written(tmp_path, text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: no such file"):
        read_published(Sizes, tmp_path / "config.json")
