import json
from collections.abc import Mapping
from operator import attrgetter, methodcaller
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.worlds.native import native_pipeline, write_native
from tests.worlds.published import write_amused
from unmask.errors import ConfigError
from unmask.models.adapter import METADATA, Adapter, write_adapter
from unmask.models.native import NativeTransformer
from unmask.pipeline import Pipeline, read_card

QKV, OUT = "blocks.0.qkv", "blocks.1.out"


def backbone() -> NativeTransformer:
    found = native_pipeline().backbone
    assert isinstance(found, NativeTransformer)
    return found


def pair(name: str, rank: int = 3) -> tuple[Tensor, Tensor]:
    """What narrows and what widens for a layer of the backbone."""
    weight = backbone().get_parameter(f"{name}.weight")
    luck = torch.Generator().manual_seed(len(name))
    down = torch.randn(rank, weight.shape[1], generator=luck)
    return down, torch.randn(len(weight), rank, generator=luck)


def saved(path: Path, state: Mapping[str, Tensor], told: object = None) -> Path:
    metadata = None if told is None else {METADATA: json.dumps(told)}
    save_file({name: tensor.clone() for name, tensor in state.items()}, path, metadata)
    return path


def merged(path: Path, scale: float = 1.0) -> NativeTransformer:
    changed = backbone()
    Adapter(path, scale).merge(changed)
    return changed


@pytest.mark.parametrize(
    ("alpha", "scale", "worth"), [(3.0, 1.0, 1.0), (6.0, 1.0, 2.0), (3.0, -0.5, -0.5)]
)
def test_adds_alpha_by_rank_times_the_product_to_the_layers_that_it_names(
    tmp_path: Path, alpha: float, scale: float, worth: float
) -> None:
    path = tmp_path / "mine.safetensors"
    both = {name: pair(name) for name in (QKV, OUT)}
    write_adapter(both, alpha, path)
    changed, plain = merged(path, scale).state_dict(), backbone().state_dict()
    for name, (down, up) in both.items():
        key = f"{name}.weight"
        torch.testing.assert_close(changed[key], plain[key] + worth * up @ down)
    same = plain.keys() - {f"{name}.weight" for name in both}
    assert all(torch.equal(changed[name], plain[name]) for name in same)


def test_reads_every_layout_alike(tmp_path: Path) -> None:
    down, up = pair(QKV)
    weight = f"{QKV}.weight"
    wanted = backbone().state_dict()[weight] + 2 * up @ down
    under = QKV.replace(".", "_")
    peft = tmp_path / "peft"
    peft.mkdir()
    parts = {
        f"base_model.model.{QKV}.lora_A.weight": down,
        f"base_model.model.{QKV}.lora_B.weight": up,
    }
    saved(peft / "adapter_model.safetensors", parts)
    config = {"r": 3, "lora_alpha": 6, "use_rslora": False, "use_dora": False}
    (peft / "adapter_config.json").write_text(json.dumps(config))
    kohya = {f"lora_unet_{under}.lora_down.weight": down, f"lora_unet_{under}.lora_up.weight": up}
    files = [
        saved(
            tmp_path / "old.safetensors",
            {
                f"unet._orig_mod.{QKV}.lora.down.weight": down,
                f"unet._orig_mod.{QKV}.lora.up.weight": up * 2,
            },
        ),
        saved(
            tmp_path / "kohya.safetensors", kohya | {f"lora_unet_{under}.alpha": torch.tensor(6.0)}
        ),
        peft,
    ]
    for path in files:
        torch.testing.assert_close(merged(path).state_dict()[weight], wanted)
    config["use_rslora"] = True
    (peft / "adapter_config.json").write_text(json.dumps(config))
    rooted = backbone().state_dict()[weight] + 6 / 3**0.5 * up @ down
    torch.testing.assert_close(merged(peft).state_dict()[weight], rooted)


def test_the_adapters_of_amused_are_read_by_the_names_that_its_trainer_writes(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "amused"
    write_amused(folder, down_up=True)
    plain = Pipeline.load(folder).backbone
    layers = [
        name.removesuffix(".weight")
        for name, _ in plain.named_parameters()
        if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight"))
    ]
    assert {name.split(".")[1] for name in layers} >= {
        "transformer_layers",
        "down_block",
        "up_block",
    }
    state, luck = {}, torch.Generator().manual_seed(0)
    for name in layers:
        rows, columns = plain.get_parameter(f"{name}.weight").shape
        state[f"{name}.lora_A.weight"] = torch.randn(2, columns, generator=luck)
        state[f"{name}.lora_B.weight"] = torch.randn(rows, 2, generator=luck)
    path = saved(tmp_path / "pytorch_lora_weights.safetensors", state)
    loaded = Pipeline.load(f"{folder}+{path}@2", packed=False)
    assert loaded.info.name == read_card(f"{folder}+{path}").name == "amused+pytorch_lora_weights"
    changed, kept = loaded.backbone, Pipeline.load(folder, packed=False).backbone
    for name in layers:
        product = state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"]
        wanted = kept.get_parameter(f"{name}.weight") + 2 * product
        torch.testing.assert_close(changed.get_parameter(f"{name}.weight"), wanted)


def test_a_model_with_an_adapter_is_another_model(tmp_path: Path) -> None:
    model = write_native(tmp_path / "model")
    path = tmp_path / "loud.safetensors"
    write_adapter({QKV: pair(QKV)}, 30.0, path, words=["circle", "sunflower"])
    plain, loud = Pipeline.load(model), Pipeline.load(f"{model}+{path}")
    assert (plain.info.name, loud.info.name) == ("tiny", "tiny+loud")
    assert read_card(f"{model}+{path}").name == "tiny+loud"
    assert "sunflower" in (loud.info.words or ())
    assert "sunflower" not in (plain.info.words or ())
    drawn = [p.generate("a red circle", seed=1).images[0].tobytes() for p in (plain, loud)]
    assert drawn[0] != drawn[1]
    nothing = Pipeline.load(f"{model}+{path}@0").generate("a red circle", seed=1).images[0]
    assert nothing.tobytes() == drawn[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.safetensors", "there is no file or folder gone.safetensors"),
        ("gone@half", "no number from -100 to 100"),
        ("gone@nan", "no number"),
        ("gone@1e9", "no number"),
        ("", "give PATH"),
    ],
)
def test_what_is_no_adapter_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Adapter.parse(text)


def test_a_name_may_have_an_at_sign(tmp_path: Path) -> None:
    path = tmp_path / "a@b"
    path.mkdir()
    assert Adapter.parse(str(path)) == Adapter(path)
    assert Adapter.parse(f"{path}@0.5") == Adapter(path, 0.5)


def fault(name: str) -> tuple[dict[str, Tensor], object, str]:
    down, up = pair(QKV)
    good = {f"transformer.{QKV}.lora_A.weight": down, f"transformer.{QKV}.lora_B.weight": up}
    broken = {**good, f"transformer.{QKV}.lora_B.weight": up * float("inf")}
    return {
        "layer": (
            {f"transformer.blocks.9.{p}.weight": down for p in ("lora_A",)},
            None,
            "no layer",
        ),
        "half": ({f"transformer.{QKV}.lora_A.weight": down}, None, "only one of"),
        "shape": ({**good, f"transformer.{QKV}.lora_A.weight": down[:, 1:]}, None, "has the shape"),
        "rank": ({**good, f"transformer.{QKV}.lora_A.weight": down[1:]}, None, "has the shape"),
        "nan": (broken, None, "not finite"),
        "dora": ({**good, f"transformer.{QKV}.lora_magnitude_vector": down}, None, "DoRA"),
        "stray": ({**good, "transformer.norm.weight": down}, None, "not part of a LoRA"),
        "nothing": ({}, None, "holds no adapter"),
        "alpha": ({**good, "lora_unet_x.alpha": torch.ones(())}, None, "belongs to no layer"),
        "alpha text": (good, {"lora_alpha": "many"}, "not a number"),
        "pattern": (good, {"alpha_pattern": {"a": 1}}, "alpha_pattern, which is not read"),
        "words": (good, {"words": 3}, "no list of words"),
    }[name]


NAMES = [
    "layer",
    "half",
    "shape",
    "rank",
    "nan",
    "dora",
    "stray",
    "nothing",
    "alpha",
    "pattern",
    "words",
]


@pytest.mark.parametrize("name", [*NAMES, "alpha text", "words"])
def test_a_broken_adapter_is_told_by_its_file(tmp_path: Path, name: str) -> None:
    state, told, message = fault(name)
    path = saved(tmp_path / "broken.safetensors", state, told)
    adapter = Adapter(path)
    read = attrgetter("words") if name == "words" else methodcaller("merge", backbone())
    with pytest.raises(ConfigError, match=message) as caught:
        read(adapter)
    assert str(path) in str(caught.value)


def test_pickles_and_what_is_no_weights_file_are_refused(tmp_path: Path) -> None:
    for name, message in (("a.bin", "never pickles"), ("a.safetensors", "not a complete adapter")):
        path = tmp_path / name
        path.write_bytes(b"\x80\x04nothing")
        with pytest.raises(ConfigError, match=message):
            Adapter(path).merge(backbone())
    (tmp_path / "b.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="file is wanted, a"):
        Adapter(tmp_path).merge(backbone())
