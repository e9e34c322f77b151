from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from unmask.errors import ConfigError, NotFoundError
from unmask.store import available_models, default_model, find_model, local_model

NATIVE = '{"name": "tiny", "description": "", "scheduler": "halton", "presets": []}'


def _hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """A hub that has one folder for every name; the list tells what was fetched."""
    fetched: list[tuple[str, str | None, tuple[str, ...]]] = []

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append((name, revision, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return fetched


def test_a_name_in_the_box_is_its_folder() -> None:
    folder, name = local_model(default_model())
    assert name in available_models()
    assert (folder / "model.json").is_file()


def test_a_folder_is_named_like_itself(tmp_path: Path) -> None:
    assert find_model(tmp_path / ".." / tmp_path.name) == (
        tmp_path / ".." / tmp_path.name,
        tmp_path.name,
    )


@pytest.mark.parametrize(
    "name", ["storybok-64", "nothing here", "a/b/c", "../x", "a/b@", "http://a/b", "a b/c"]
)
def test_what_is_no_name_of_a_hub_never_reaches_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = _hub(tmp_path, monkeypatch)
    with pytest.raises(NotFoundError, match="neither a folder nor a known name") as caught:
        find_model(name)
    assert default_model() in str(caught.value)
    assert not fetched


def test_small_files_come_first_and_tell_which_weights_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.json").write_text(NATIVE)
    fetched = _hub(tmp_path, monkeypatch)
    assert find_model("someone/tiny@v1.0") == (tmp_path, "someone/tiny")
    assert [(name, revision) for name, revision, _ in fetched] == [("someone/tiny", "v1.0")] * 2
    assert all(pattern.endswith((".json", ".txt")) for pattern in fetched[0][2])
    assert "transformer/*" in fetched[1][2]


def test_a_folder_goes_before_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    fetched = _hub(tmp_path, monkeypatch)
    assert find_model("someone/tiny") == (Path("someone/tiny"), "tiny")
    assert not fetched


def test_nothing_known_on_the_hub_lists_the_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = _hub(tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=r"no model of a known layout \(native: model.json"):
        find_model("someone/else")
    assert len(fetched) == 1  # no weights were fetched for nothing


def test_without_a_network_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("cannot reach it\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(ConfigError, match=r"not a folder, and cannot be .*: cannot reach it"):
        find_model("a/b")
