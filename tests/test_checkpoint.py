import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from unmask.checkpoint import (
    holds_tensor,
    load_module,
    load_weights,
    save_weights,
    weights_file,
    write_eight_bits,
)
from unmask.errors import ConfigError


def _make_module() -> nn.Module:
    module = nn.Linear(3, 2)
    module.register_buffer("count", torch.tensor([7]))
    return module


def _make_file(folder: Path, **changes: torch.Tensor | None) -> Path:
    state = {**_make_module().state_dict(), **changes}
    path = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path)
    return path


def test_whole_precision_gives_back_the_same_weights(tmp_path: Path) -> None:
    saved, loaded = _make_module(), _make_module()
    save_weights(saved, tmp_path / "w", half=False)
    load_weights(loaded, tmp_path / "w")
    assert all(map(torch.equal, saved.state_dict().values(), loaded.state_dict().values()))


def test_half_precision_rounds_floats_alone_and_loads_as_fp32(tmp_path: Path) -> None:
    saved, loaded = _make_module(), _make_module()
    save_weights(saved, tmp_path / "w")
    on_disk = load_file(tmp_path / "w")
    assert (on_disk["weight"].dtype, on_disk["count"].dtype) == (torch.float16, torch.int64)
    load_weights(loaded, tmp_path / "w")
    assert torch.equal(loaded.state_dict()["weight"], saved.state_dict()["weight"].half().float())


def test_values_too_large_for_fp16_are_kept_whole(tmp_path: Path) -> None:
    module = _make_module()
    nn.init.constant_(module.get_parameter("weight"), 1e6)
    save_weights(module, tmp_path / "w")
    load_weights(module, tmp_path / "w")
    assert (module.get_parameter("weight") == 1e6).all()


def test_eight_bits_are_half_a_step_off_at_most_and_other_tensors_as_they_were(
    tmp_path: Path,
) -> None:
    saved, loaded = nn.Conv2d(5, 7, 3), nn.Conv2d(5, 7, 3)
    with torch.no_grad():
        saved.weight[2] = 0
        saved.weight[3] *= 1e-6
    save_weights(saved, tmp_path / "w", half=False)
    write_eight_bits(tmp_path / "w")
    assert load_file(tmp_path / "w")["weight"].dtype == torch.int8
    load_weights(loaded, tmp_path / "w")
    steps = saved.weight.abs().amax((1, 2, 3), keepdim=True) / 127
    assert ((saved.weight - loaded.weight).abs() <= 0.5001 * steps).all()
    assert torch.equal(loaded.get_parameter("bias"), saved.get_parameter("bias"))
    once = load_file(tmp_path / "w")
    write_eight_bits(tmp_path / "w")
    assert torch.equal(load_file(tmp_path / "w")["weight"], once["weight"])


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(2, 3), torch.tensor(1.0)])
def test_scales_of_eight_bits_that_do_not_fit_are_named(
    tmp_path: Path, scale: torch.Tensor
) -> None:
    changes = {"weight": torch.ones(2, 3, dtype=torch.int8), "weight.scale": scale}
    with pytest.raises(ConfigError, match=r"weight\.scale is not one number a row of weight"):
        load_weights(_make_module(), _make_file(tmp_path, **changes))


def test_eight_bits_without_scales_are_no_weights(tmp_path: Path) -> None:
    path = _make_file(tmp_path, weight=torch.ones(2, 3, dtype=torch.int8))
    with pytest.raises(ConfigError, match="weight holds values that are not finite"):
        load_weights(_make_module(), path)


def test_saving_leaves_one_file(tmp_path: Path) -> None:
    save_weights(_make_module(), tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bias": None}, "bias is missing"),
        ({"more": torch.zeros(1)}, "more is .*expected none"),
        ({"weight": torch.zeros(3, 2)}, r"weight is \[3, 2\], expected"),
        ({"weight": torch.full((2, 3), torch.nan)}, "weight holds values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"model.safetensors: .*{said}"):
        load_weights(_make_module(), _make_file(tmp_path, **changes))


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_a_cut_file_is_named(tmp_path: Path, keep: int) -> None:
    path = _make_file(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=r"model.safetensors: not a complete safetensors file"):
        load_weights(_make_module(), path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent: no such file"):
        load_weights(_make_module(), tmp_path / "absent")


def test_a_refused_file_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    module = _make_module()
    before = module.get_parameter("weight").clone()
    with pytest.raises(ConfigError):
        load_weights(module, _make_file(tmp_path, bias=torch.full((2,), torch.inf)))
    assert torch.equal(module.get_parameter("weight"), before)


def test_saved_weights_can_be_read_by_others_as_any_new_file_can(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    save_weights(nn.Linear(2, 3), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def _make_shards(folder: Path, half: bool = False) -> Path:
    """The module's weights in two files and an index."""
    variant = ".fp16" if half else ""
    state = _make_module().state_dict()
    names = [f"model{variant}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    save_file({"weight": state["weight"]}, folder / names[0])
    save_file({"bias": state["bias"], "count": state["count"]}, folder / names[1])
    weight_map = {"weight": names[0], "bias": names[1], "count": names[1]}
    index = folder / f"model.safetensors.index{variant}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_in_several_files_are_found_and_read(
    half: bool, precision: str, tmp_path: Path
) -> None:
    index = _make_shards(tmp_path, half)
    path = weights_file(tmp_path, "model", precision)
    assert path == index
    module = load_module(_make_module, path, torch.float32)
    assert module.get_buffer("count").tolist() == [7]
    assert holds_tensor(path, "weight")
    assert not holds_tensor(path, "heavy")


def test_an_index_without_its_files_gives_way_to_weights_that_are_there(tmp_path: Path) -> None:
    index = _make_shards(tmp_path)
    for shard in tmp_path.glob("*-of-*"):
        shard.unlink()
    assert weights_file(tmp_path, "model", "fp32") == index
    with pytest.raises(ConfigError, match=r"model-00001-of-00002.safetensors: no such file"):
        load_module(_make_module, index, torch.float32)
    half = _make_shards(tmp_path, half=True)
    assert weights_file(tmp_path, "model", "fp32") == half
    assert weights_file(tmp_path, "model", "fp16") == half


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"weight_map": [1]}',
        '{"weight_map": {"weight": 3}}',
        '{"weight_map": {"weight": "../model.safetensors"}}',
        '{"weight_map": {"weight": "model.bin"}}',
    ],
)
def test_an_index_that_names_no_files_beside_it_is_refused(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ConfigError, match=r"model.safetensors.index.json: n"):
        load_module(_make_module, index, torch.float32)
    assert not holds_tensor(index, "weight")
