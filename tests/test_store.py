import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from unmask import store
from unmask.box import available_models
from unmask.devices import Precision
from unmask.errors import ConfigError, NotFoundError
from unmask.models.adapter import Adapter
from unmask.store import default_model, find_model, local_model, parted, served_models

NATIVE = '{"name": "tiny", "description": "", "scheduler": "halton", "presets": []}'


def _hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """A hub that has one folder for every name; the list tells what was fetched."""
    fetched: list[tuple[str, str | None, tuple[str, ...]]] = []

    def snapshot_download(
        name: str, *, revision: str | None, allow_patterns: list[str], etag_timeout: float
    ) -> str:
        fetched.append((name, revision, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return fetched


def test_a_name_in_the_box_is_its_folder() -> None:
    folder, name = local_model(default_model())
    assert name in available_models()
    assert (folder / "model.json").is_file()


def test_a_server_has_what_it_is_told_or_what_is_in_the_box() -> None:
    assert served_models("mine", ["b", "mine"]) == ("mine", "b")
    assert served_models(None, ["b"]) == (default_model(), "b", default_model(clips=True))


def test_the_adapters_of_a_server_are_those_of_its_default_model() -> None:
    assert served_models("mine", [], ["a.safetensors@2"]) == ("mine", "mine+a.safetensors@2")


def test_an_adapter_stands_behind_any_model(tmp_path: Path) -> None:
    path = tmp_path / "a+b.safetensors"
    path.touch()
    folder = tmp_path / "c+d"
    folder.mkdir()
    for model in (default_model(), str(folder), "owner/name@main"):
        assert parted(model) == (model, None)
        assert parted(f"{model}+{path}") == (model, Adapter(path))
        assert parted(f"{model}+{path}@0.5") == (model, Adapter(path, 0.5))
    assert local_model(f"{folder}+{path}") == (folder, "c+d")
    assert parted("no such+thing") == ("no such+thing", None)
    with pytest.raises(ConfigError, match="there is no file or folder gone"):
        find_model(f"{default_model()}+gone")


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


def _hub_of_files(names: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has an aMUSEd of these files of weights; what is fetched lies in the folder."""
    index = '{"_class_name": "AmusedPipeline"}'
    files = {"model_index.json": index} | dict.fromkeys(names, "{}")

    def snapshot_download(name: str, *, allow_patterns: list[str], **_: Any) -> str:
        for file, text in files.items():
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_text(text)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


WEIGHTS = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vqvae": "diffusion_pytorch_model",
}


def _fetched_weights(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("ending", ["fp16.safetensors", "safetensors"])
def test_weights_of_the_other_precision_are_fetched_if_there_are_no_others(
    precision: Precision, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{folder}/{stem}.{ending}" for folder, stem in WEIGHTS.items()]
    _hub_of_files(names, tmp_path, monkeypatch)
    assert find_model("a/b", precision) == (tmp_path, "a/b")
    assert _fetched_weights(tmp_path) == set(names)


@pytest.mark.parametrize(("precision", "half"), [("fp32", False), ("bf16", False), ("fp16", True)])
def test_of_two_precisions_one_is_fetched(
    precision: Precision, half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {f"{folder}/{stem}.safetensors" for folder, stem in WEIGHTS.items()}
    halves = {name.replace(".safetensors", ".fp16.safetensors") for name in plain}
    _hub_of_files([*plain, *halves], tmp_path, monkeypatch)
    find_model("a/b", precision)
    assert _fetched_weights(tmp_path) == (halves if half else plain)


def test_weights_in_several_files_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = [f"{name}/{WEIGHTS[name]}.safetensors" for name in ("text_encoder", "vqvae")]
    stem = "transformer/diffusion_pytorch_model"
    shards = [f"{stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    halves = [f"{stem}.fp16-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = f"{stem}.safetensors.index.json"
    _hub_of_files([*single, *shards, *halves, index], tmp_path, monkeypatch)
    find_model("a/b")
    assert _fetched_weights(tmp_path) == {*single, *shards}
    assert (tmp_path / index).is_file()


@pytest.mark.parametrize("answer", ["nothing", "reset", "half", "rubbish"])
def test_a_hub_that_does_not_answer_is_an_error_soon(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer, args=(server, answer))
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(store, "HUB_TIMEOUT_SECONDS", 0.1)
        began = time.monotonic()
        with pytest.raises(ConfigError, match="'a/b': not a folder, and cannot be fetched") as told:
            find_model("a/b")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert "\n" not in str(told.value)
    assert time.monotonic() - began < 30


def _answer(server: socket.socket, answer: str) -> None:
    """Accept whoever comes, and answer nothing, a reset, half an answer, or what no hub would."""
    texts = {"half": b"Content-Length: 99\r\n\r\n{", "rubbish": b"Content-Length: 2\r\n\r\n{}"}
    with contextlib.suppress(OSError), contextlib.ExitStack() as accepted:
        while True:
            connection, _ = server.accept()
            accepted.enter_context(connection)
            if answer in texts:
                with contextlib.suppress(OSError):  # who asked may be gone
                    connection.recv(9999)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n" + texts[answer])
            if answer == "reset":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()
