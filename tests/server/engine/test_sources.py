from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.worlds.native import write_native
from unmask.errors import ConfigError, NotFoundError
from unmask.pipeline import Pipeline
from unmask.server.engine.models import weight_bytes
from unmask.server.engine.sources import StoredModels
from unmask.store import default_model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_size_that_is_foretold_is_the_size_that_is_loaded(precision: str) -> None:
    source = StoredModels(precision)  # type: ignore[arg-type]
    key = default_model()
    loaded = weight_bytes(source.load(key, "cpu"))
    assert loaded <= source.size(key) <= 1.1 * loaded


def test_a_name_is_read_off_the_card_and_of_a_hub_off_the_key(tmp_path: Path) -> None:
    source = StoredModels("fp32")
    assert source.name(default_model()) == default_model()
    assert source.name(str(write_native(tmp_path / "folder"))) == "tiny"
    assert source.name("owner/model@main") == "owner/model"
    adapter = tmp_path / "loud.safetensors"
    adapter.touch()
    assert source.name(f"owner/model@main+{adapter}") == "owner/model+loud"
    assert source.name(f"{default_model()}+{adapter}@2") == f"{default_model()}+loud"
    with pytest.raises(NotFoundError):
        source.name("no such model")


def test_of_a_pair_of_weights_the_one_that_is_read_is_counted(tmp_path: Path) -> None:
    folder = write_native(tmp_path)
    half, full = StoredModels("fp16"), StoredModels("fp32")
    before = half.size(str(folder)), full.size(str(folder))
    extra = {"weight": torch.zeros(1000)}
    save_file(extra, folder / "transformer" / "extra.safetensors")
    save_file(extra, folder / "transformer" / "extra.fp16.safetensors")
    assert half.size(str(folder)) - before[0] == 2000
    assert full.size(str(folder)) - before[1] == 4000


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", bytes(20)])
def test_weights_that_are_none_are_named(tmp_path: Path, content: bytes) -> None:
    folder = write_native(tmp_path)
    [path] = (folder / "transformer").glob("*.safetensors")
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="transformer"):
        StoredModels("fp32").size(str(folder))


def test_it_loads(tmp_path: Path) -> None:
    folder = write_native(tmp_path)
    assert isinstance(StoredModels("fp32").load(str(folder), "cpu"), Pipeline)
