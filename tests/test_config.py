import tomllib
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Literal, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask import config
from unmask.errors import ConfigError
from unmask.training.judge import JudgeTraining
from unmask.training.tokenizer import TokenizerTraining
from unmask.training.transformer import TransformerTraining

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class _Inner:
    kind: Literal["a", "b"]
    parts: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Outer:
    inner: _Inner
    grid: tuple[int, int] = (1, 1)
    rate: float = 0.5
    flag: bool = False
    name: str | None = None
    many: tuple[_Inner, ...] = ()
    derived: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must not be negative")


def test_values_become_nested_dataclasses() -> None:
    loaded = config.from_mapping(
        _Outer, {"inner": {"kind": "b", "parts": [1, 2]}, "rate": 2, "many": [{"kind": "a"}]}
    )
    assert loaded == _Outer(_Inner("b", (1, 2)), rate=2.0, many=(_Inner("a"),))
    assert isinstance(loaded.rate, float)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"inner": {"kind": "a"}, "naem": "x"}, "naem: unknown field; did you mean 'name'?"),
        ({"inner": {"kind": "c"}}, "inner.kind: 'c'; choose one of: a, b"),
        ({}, "inner: missing"),
        ({"inner": {}}, "inner.kind: missing"),
        ({"inner": 3}, "inner: expected a table, got 3"),
        ({"inner": {"kind": "a", "parts": [1, "x"]}}, r"inner.parts\[1\]: expected int, got 'x'"),
        ({"inner": {"kind": "a", "parts": 1}}, "inner.parts: expected a list, got 1"),
        ({"inner": {"kind": "a"}, "grid": [1]}, "grid: 1 values; expected 2"),
        ({"inner": {"kind": "a"}, "rate": True}, "rate: expected float, got True"),
        ({"inner": {"kind": "a"}, "rate": "1"}, "rate: expected float, got '1'"),
        ({"inner": {"kind": "a"}, "flag": 1}, "flag: expected true or false, got 1"),
        ({"inner": {"kind": "a"}, "name": 1}, "name: expected str, got 1"),
        ({"inner": {"kind": "a"}, "derived": 1}, "derived: unknown field"),
        ({"inner": {"kind": "a"}, "rate": -1.0}, "_Outer: rate must not be negative"),
        ([], "_Outer: expected a table"),
    ],
)
def test_a_fault_names_the_field_and_the_value(values: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.from_mapping(_Outer, values)


def test_null_stands_for_an_absent_option() -> None:
    assert config.from_mapping(_Outer, {"inner": {"kind": "a"}, "name": None}).name is None


@given(
    st.builds(
        _Outer,
        inner=st.builds(_Inner, st.sampled_from(["a", "b"]), st.lists(st.integers()).map(tuple)),
        rate=st.floats(0, allow_infinity=False),
        name=st.none() | st.text(),
    )
)
def test_json_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, outer: _Outer
) -> None:
    path = tmp_path_factory.mktemp("config") / "config.json"
    config.save_json(_Saved(outer.inner, outer.rate, outer.name), path)
    assert config.load(_Saved, path) == _Saved(outer.inner, outer.rate, outer.name)


@dataclass(frozen=True)
class _Saved:
    inner: _Inner
    rate: float
    name: str | None


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "kind = ", "cannot be read"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "\udce9", "cannot be read"),
        ("a.toml", 'kind = "c"', "kind: 'c'"),
        ("missing.toml", None, "no such file"),
    ],
)
def test_a_fault_in_a_file_names_the_file(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=f"{name}: .*{said}"):
        config.load(_Inner, path)


def test_a_folder_in_place_of_a_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(_Inner, tmp_path)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*/tokenizer.toml")), ids=lambda path: path.parent.name
)
def test_every_tokenizer_config_that_is_shipped_loads(path: Path) -> None:
    assert config.load(TokenizerTraining, path).loop.steps > 0
    assert set(tomllib.loads(path.read_text())) <= {"model", "data", "loss", "loop", "rasters"}


@pytest.mark.parametrize("training", [TokenizerTraining, TransformerTraining, JudgeTraining])
def test_every_field_of_a_training_is_documented(training: type) -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    missing = [name for name in _leaves(training) if f"{name}`" not in text]
    assert not missing


def _leaves(kind: type) -> list[str]:
    names = []
    for name, inner in get_type_hints(kind).items():
        names += _leaves(inner) if isinstance(inner, type) and is_dataclass(inner) else [name]
    return names
