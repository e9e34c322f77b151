from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.worlds.clip_models import write_clip_model
from tests.worlds.commands import called
from tests.worlds.halton import write_halton
from tests.worlds.native import write_native
from tests.worlds.published import write_amused
from unmask.errors import ConfigError, RequestError
from unmask.pipeline import Pipeline
from unmask.quantize import quantize


def _halton(folder: Path) -> None:
    write_halton(folder.parent).rename(folder)


def _amused(folder: Path) -> None:
    write_amused(folder, down_up=False)


@pytest.mark.parametrize("write", [write_native, write_clip_model, _halton, _amused])
def test_a_folder_of_any_family_draws_from_eight_bits(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path / "model")
    out = quantize(tmp_path / "model", tmp_path / "new" / "small")
    for path in out.rglob("*.safetensors"):
        assert path.stat().st_size < (tmp_path / "model" / path.relative_to(out)).stat().st_size
        assert {str(tensor.dtype) for tensor in load_file(path).values()} >= {"torch.int8"}
    kept, small = Pipeline.load(str(tmp_path / "model")), Pipeline.load(str(out))
    assert small.info.parameters == kept.info.parameters
    assert small.generate("0", steps=2, seed=1).images[0].size == (
        kept.info.width,
        kept.info.height,
    )


def test_a_taken_folder_and_one_without_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_native(tmp_path / "model")
    with pytest.raises(RequestError, match="is there already"):
        quantize(tmp_path / "model", tmp_path)
    with pytest.raises(ConfigError, match="no folder that holds"):
        quantize(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert called(monkeypatch, "quantize", tmp_path / "model", tmp_path / "out") == 0
    assert (tmp_path / "out" / "model.json").is_file()
    (tmp_path / "out" / "tokenizer" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ConfigError, match="not a complete safetensors file"):
        quantize(tmp_path / "out", tmp_path / "more")
    assert not (tmp_path / "more").exists()
