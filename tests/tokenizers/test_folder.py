import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmask.errors import ConfigError
from unmask.tokenizers.folder import load_tokenizer, save_tokenizer
from unmask.tokenizers.quantizers import QuantizerConfig
from unmask.tokenizers.vqgan import VQGAN, VQGANConfig


def _make_tokenizer(kind: str = "fsq") -> VQGAN:
    quantizer = QuantizerConfig(kind, levels=(4, 3), bits=4, codes=12)  # type: ignore[arg-type]
    return VQGAN(VQGANConfig((8,), (8,), blocks=1, quantizer=quantizer)).eval()


@pytest.mark.parametrize("kind", ["fsq", "lfq", "vq"])
def test_a_saved_tokenizer_loads_as_the_same(tmp_path: Path, kind: str) -> None:
    tokenizer, images = _make_tokenizer(kind), torch.rand(2, 3, 8, 8)
    save_tokenizer(tokenizer, tmp_path / "t", half=False)
    loaded = load_tokenizer(tmp_path / "t")
    assert loaded.config == tokenizer.config
    tokens = tokenizer.encode(images)
    assert torch.equal(loaded.encode(images), tokens)
    assert torch.equal(loaded.decode(tokens), tokenizer.decode(tokens))


def test_a_loaded_tokenizer_is_ready_to_use(tmp_path: Path) -> None:
    save_tokenizer(_make_tokenizer(), tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_surplus_missing_and_cut_weights_name_the_file(tmp_path: Path) -> None:
    save_tokenizer(_make_tokenizer(), tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    save_file({**state, "extra": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"model.safetensors: .*extra"):
        load_tokenizer(tmp_path)
    state.pop("decoder.0.bias")
    save_file(state, path)
    with pytest.raises(ConfigError, match=r"model.safetensors: .*decoder.0.bias is missing"):
        load_tokenizer(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ConfigError, match=r"model.safetensors: not a complete"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks": "one"}, "blocks: expected int"),
        ({"blocks": 2}, r"model.safetensors: \d+ tensors do not fit"),
        ({"depth": 2}, "depth: unknown field"),
        ({"encoder_channels": [12]}, "12 channels"),
    ],
)
def test_a_config_that_does_not_fit_names_the_file(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    save_tokenizer(_make_tokenizer(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ConfigError, match=said):
        load_tokenizer(tmp_path)


def test_an_empty_folder_names_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.json: no such file"):
        load_tokenizer(tmp_path)
