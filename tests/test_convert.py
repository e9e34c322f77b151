import os
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.worlds.halton import (
    TOKENIZER,
    TRANSFORMER,
    tokenizer_state,
    transformer_state,
    write_tokenizer,
    write_transformer,
)
from unmask import config
from unmask.convert import HEADS, convert, convert_halton
from unmask.errors import ConfigError, RequestError
from unmask.families.halton_maskgit import FILES
from unmask.models.halton_maskgit import HaltonConfig
from unmask.tokenizers.llamagen import LlamaGenConfig


@pytest.fixture(autouse=True)
def _tiny_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, TRANSFORMER.width, TRANSFORMER.heads)


@pytest.fixture(name="out")
def _out(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny"


def test_a_published_pair_becomes_our_layout(tmp_path: Path, out: Path) -> None:
    pair = write_transformer(tmp_path), write_tokenizer(tmp_path)
    assert convert(pair[0], out, pair[1]) == out
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert list(out.parent.iterdir()) == [out]  # nothing is left of the work
    assert config.load(HaltonConfig, out / "transformer" / "config.json") == TRANSFORMER
    assert config.load(LlamaGenConfig, out / "tokenizer" / "config.json") == TOKENIZER
    for part, state, dropped in (
        ("transformer", transformer_state(), "head.weight"),
        ("tokenizer", tokenizer_state(), "quantize.codebook_used"),
    ):
        written = load_file(out / part / "model.safetensors")
        assert written.keys() == state.keys() - {dropped}
        assert all(torch.equal(written[name], state[name]) for name in written)
    labels = (out / "labels.txt").read_text().splitlines()
    assert (len(labels), labels[282]) == (1000, "tiger cat")


def test_what_wrappers_put_before_names_is_cut_off(tmp_path: Path, out: Path) -> None:
    state = {f"module._orig_mod.{name}": tensor for name, tensor in transformer_state().items()}
    convert_halton(write_transformer(tmp_path, state), write_tokenizer(tmp_path), out)
    assert "cls_emb.weight" in load_file(out / "transformer" / "model.safetensors")


def test_half_is_the_transformers_alone(tmp_path: Path, out: Path) -> None:
    convert(write_transformer(tmp_path), out, write_tokenizer(tmp_path), half=True)
    for part, dtype in (("transformer", torch.float16), ("tokenizer", torch.float32)):
        state = load_file(out / part / "model.safetensors")
        assert {tensor.dtype for tensor in state.values()} == {dtype}


def test_other_classes_than_imagenets_go_by_number(tmp_path: Path, out: Path) -> None:
    settings = HaltonConfig(**{**vars(TRANSFORMER), "classes": 3})
    path = write_transformer(tmp_path, transformer_state(settings))
    convert_halton(path, write_tokenizer(tmp_path), out)
    assert (out / "labels.txt").read_text() == "0\n1\n2\n"


def test_files_of_before_torch_1_6_are_read(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "old.pth"
    old: Any = {"_use_new_zipfile_serialization": False}
    torch.save({"model_state_dict": transformer_state()}, path, **old)
    convert_halton(path, write_tokenizer(tmp_path), out)
    assert out.is_dir()


def test_a_folder_that_is_taken_stays_as_it_is(tmp_path: Path, out: Path) -> None:
    out.mkdir(parents=True)
    pair = write_transformer(tmp_path), write_tokenizer(tmp_path)
    convert_halton(*pair, out)  # an empty one may be filled
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(RequestError, match="is there already") as caught:
        convert_halton(*pair, out)
    assert caught.value.param == "out"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(RequestError, match="is there already"):
        convert_halton(*pair, pair[0])


def test_work_that_fails_half_way_leaves_nothing(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    pair = write_transformer(tmp_path), write_tokenizer(tmp_path)
    monkeypatch.setattr("unmask.convert.LabelCondition.save", full)
    with pytest.raises(RequestError, match="tiny: No space left on device"):
        convert_halton(*pair, out)
    assert list(out.parent.iterdir()) == []


def test_the_tokenizers_file_is_asked_for(tmp_path: Path, out: Path) -> None:
    with pytest.raises(RequestError, match="LlamaGen's") as caught:
        convert(write_transformer(tmp_path), out, None)
    assert caught.value.param == "tokenizer"


class _Touches:
    """A pickle that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("part", ["transformer", "tokenizer"])
@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_file_that_is_a_program_is_refused_and_not_run(
    tmp_path: Path, out: Path, part: str, container: str
) -> None:
    pair = {"transformer": write_transformer(tmp_path), "tokenizer": write_tokenizer(tmp_path)}
    touched = tmp_path / "touched"
    content = {"model_state_dict": {}, "model": {}, "more": _Touches(touched)}
    path = pair[part]
    if container == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ConfigError, match=r"asks for posix\.system") as caught:
        convert_halton(pair["transformer"], pair["tokenizer"], out)
    assert str(path) in str(caught.value)
    assert not touched.exists()
    assert not out.exists()
    if container == "torch":  # the trap is a real one
        torch.load(path, weights_only=False)
        assert touched.exists()


def test_an_optimizer_that_holds_other_classes_is_told(tmp_path: Path, out: Path) -> None:
    path = write_transformer(tmp_path, optimizer_state_dict={"args": Namespace(lr=1)})
    with pytest.raises(ConfigError, match=r"tiny\.pth: asks for argparse\.Namespace"):
        convert_halton(path, write_tokenizer(tmp_path), out)


def test_an_optimizer_of_tensors_and_numbers_does_not_matter(tmp_path: Path, out: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = write_transformer(tmp_path, optimizer_state_dict=optimizer.state_dict())
    assert convert_halton(path, write_tokenizer(tmp_path), out) == out


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(name)


def _with(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("cls_emb.weight"), "cls_emb.weight is missing"),
        (_without("transformer.layers.1.attn.wq.weight"), "layers.1.attn.wq.weight is missing"),
        (_with("in_proj.weight", torch.ones(1)), r"in_proj.weight is \[1\], expected none"),
        (_with("transformer.layers.9.ln1.weight", torch.ones(32)), "layers.2.attn.wk.weight is mi"),
        (_with("tok_emb.weight", torch.ones(24)), r"tok_emb.weight is \[24\]; expected 2 axes"),
        (_with("pos_emb.weight", torch.ones(15, 32)), "pos_emb.weight has 15 rows"),
        (_with("cls_emb.weight", torch.ones(1001, 33)), "cls_emb.weight is 33 wide"),
        (_with("cls_emb.weight", torch.ones(1, 32)), "classes: 0 is no size"),
        (_with("head.weight", torch.ones(25, 32)), "head.weight is not tok_emb.weight"),
        (_with("head.bias", torch.full((25,), float("nan"))), "head.bias holds values"),
        (_with("head.bias", torch.ones(25, dtype=torch.int64)), "head.bias holds values"),
        (_with("head.bias", 3), "'head.bias' is no tensor"),
        (_with("last_norm.mlp.1.bias", torch.ones(63)), r"mlp.1.bias is \[63\], expected \[64\]"),
    ],
)
def test_a_malformed_transformer_names_file_and_tensor(
    tmp_path: Path, out: Path, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    state = transformer_state()
    spoil(state)
    with pytest.raises(ConfigError, match=rf"ImageNet_256_tiny\.pth: .*{message}"):
        convert_halton(write_transformer(tmp_path, state), write_tokenizer(tmp_path), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("quantize.embedding.weight"), "quantize.embedding.weight is missing"),
        (_without("encoder.conv_blocks.1.res.0.conv1.weight"), "res.0.conv1.weight is missing"),
        (_with("encoder.conv_in.weight", torch.ones(30, 3, 3, 3)), "channels: 30"),
        (_with("decoder.conv_out.bias", torch.ones(4)), r"conv_out.bias is \[4\], expected \[3\]"),
        (_with("quant_conv.bias", torch.tensor([1, 2, 3, float("inf")])), "quant_conv.bias holds"),
    ],
)
def test_a_malformed_tokenizer_names_file_and_tensor(
    tmp_path: Path, out: Path, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    state = tokenizer_state()
    spoil(state)
    with pytest.raises(ConfigError, match=rf"vq_ds16_c2i\.pt: .*{message}"):
        convert_halton(write_transformer(tmp_path), write_tokenizer(tmp_path, state), out)
    assert not out.exists()


def test_codebooks_that_differ_are_refused(tmp_path: Path, out: Path) -> None:
    state = tokenizer_state(LlamaGenConfig(**{**vars(TOKENIZER), "codebook_size": 25}))
    with pytest.raises(ConfigError, match=r"\.pth knows 24 codes, but .*\.pt has 25"):
        convert_halton(write_transformer(tmp_path), write_tokenizer(tmp_path, state), out)


def test_files_that_are_something_else_are_refused(tmp_path: Path, out: Path) -> None:
    transformer, tokenizer = write_transformer(tmp_path), write_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"vq_ds16_c2i\.pt: .*'model_state_dict'"):
        convert_halton(tokenizer, transformer, out)
    with pytest.raises(ConfigError, match=r"none\.pth: no such file"):
        convert_halton(tmp_path / "none.pth", tokenizer, out)
    whole = transformer.read_bytes()
    torch.save([torch.ones(1)], transformer)
    with pytest.raises(ConfigError, match="expected a table"):
        convert_halton(transformer, tokenizer, out)
    for content in (b"", b"not weights", whole[: len(whole) // 2], bytes(64), whole[:2000]):
        transformer.write_bytes(content)
        with pytest.raises(ConfigError, match=r"ImageNet_256_tiny\.pth: not a complete torch"):
            convert_halton(transformer, tokenizer, out)
    assert not out.exists()
