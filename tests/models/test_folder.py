from pathlib import Path

import pytest
import torch

from unmask.errors import ConfigError
from unmask.models.conditions import ConditionEncoder, LabelCondition, NoCondition, TextCondition
from unmask.models.folder import load_native, save_native
from unmask.models.native import NativeConfig, NativeTransformer


def _model(kind: str, condition: ConditionEncoder) -> NativeTransformer:
    assert kind in ("text", "label", "none")
    return NativeTransformer(
        NativeConfig(
            width=16,
            layers=1,
            heads=2,
            hidden=16,
            grid=(2, 2),
            codebook_size=5,
            condition=kind,  # type: ignore[arg-type]
            vocabulary=condition.vocabulary,
            condition_length=condition.length,
        )
    )


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        ("text", TextCondition.learn(["a cat", "a dog"], 300, 8)),
        ("label", LabelCondition(["cat", "dog"])),
        ("none", NoCondition()),
    ],
)
def test_every_kind_of_condition_survives_saving(
    tmp_path: Path, kind: str, condition: ConditionEncoder
) -> None:
    model = _model(kind, condition)
    save_native(model, condition, tmp_path, half=False)
    loaded, again = load_native(tmp_path)
    assert type(again) is type(condition)
    tokens = torch.randint(6, (2, 4))
    expected = model(tokens, model.encode(condition(["cat", ""])))
    assert torch.equal(loaded(tokens, loaded.encode(again(["cat", ""]))), expected)


def test_half_precision_files_load_as_single(tmp_path: Path) -> None:
    condition = NoCondition()
    save_native(_model("none", condition), condition, tmp_path)
    loaded, _ = load_native(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_a_condition_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    save_native(_model("label", LabelCondition(["cat"])), LabelCondition(["cat", "dog"]), tmp_path)
    with pytest.raises(ConfigError, match="3 ids, the model embeds 2"):
        load_native(tmp_path)
