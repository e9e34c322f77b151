from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from unmask import config
from unmask.commands import models
from unmask.errors import ConfigError
from unmask.training.run import KINDS, TUNING, What, train
from unmask.training.tokenizer import TokenizerTraining
from unmask.training.transformer import TransformerTraining

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG_KINDS: dict[str, What] = {
    "tokenizer": "tokenizer",
    "decoder": "tokenizer",
    "enlarging": "tokenizer",
    "transformer": "transformer",
    "judge": "judge",
    "clips": "clips",
    "slots": "slots",
    "causal_fsq": "clip-tokenizer",
    "causal_lfq": "clip-tokenizer",
    "hints": "clips",
    "planes": "planes",
}


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*/*.toml")) - set(CONFIGS.glob("eval/*"))), ids=str
)
def test_every_configuration_in_the_repository_is_valid(path: Path) -> None:
    kind = TUNING if path.stem == "tuning" else KINDS[CONFIG_KINDS[path.stem]]
    assert config.load(kind.config, path).loop.steps > 0


def test_the_command_offers_every_training() -> None:
    assert set(get_args(get_type_hints(models.train)["what"])) == set(KINDS)


@pytest.mark.parametrize("size", ["small", "full", "folder"])
def test_tokenizer_and_transformer_of_a_size_see_the_same_data(size: str) -> None:
    tokenizer = config.load(TokenizerTraining, CONFIGS / size / "tokenizer.toml")
    transformer = config.load(TransformerTraining, CONFIGS / size / "transformer.toml")
    for name in ("kind", "nouns", "styles"):
        assert getattr(tokenizer.data, name) == getattr(transformer.data, name)
    assert tokenizer.data.scenes.size == transformer.data.scenes.size


@pytest.mark.parametrize("what", ["transformer", "judge", "clips", "slots"])
def test_what_needs_a_tokenizer_is_told_what_to_give(what: What, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"a {what} needs --tokenizer"):
        train(what, CONFIGS / "small" / f"{what}.toml", tmp_path)


def test_a_tokenizer_that_would_not_be_read_is_refused(tmp_path: Path) -> None:
    config = CONFIGS / "peers" / "causal_fsq.toml"
    with pytest.raises(ConfigError, match="--tokenizer: a clip-tokenizer begins with none"):
        train("clip-tokenizer", config, tmp_path, tokenizer=tmp_path)


def test_a_missing_configuration_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        train("tokenizer", tmp_path / "nowhere.toml", tmp_path)


@pytest.mark.parametrize(
    ("what", "before", "after", "said"),
    [
        ("transformer", "heads = 4", "heads = 5", "model: heads: 5; width, 192, must be a mult"),
        ("transformer", "heads = 4", "heads = 0", "model: heads: 0; the bounds are 1 and"),
        ("transformer", "= 1e-3", "= nan", "loop.learning_rate: nan; give finite numbers"),
        ("transformer", "= 1e-3", "= -1.0", "loop: learning_rate: -1.0; the bounds are 1e-09"),
        ("transformer", "layers = 4", "layers = -4", "model: layers: -4; the bounds"),
        ("transformer", "[loop]", "[loss]\ndrop_condition = 7\n[loop]", "loss: drop_condition: 7"),
        ("tokenizer", "[loop]", "[loss]\nsquare = -1\n[loop]", "loss: square: -1.0; the bounds"),
        ("tokenizer", "[model]", "rasters = [3]\n[model]", "rasters: 3 does not divide"),
        ("judge", "[48, 96, 128]", "[8, 8, 9]", "model: channels: .*of 8"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_loaded(
    what: What, before: str, after: str, said: str, tmp_path: Path
) -> None:
    folder = "small" if what == "judge" else "folder"
    text = (CONFIGS / folder / f"{what}.toml").read_text()
    assert before in text
    path = tmp_path / "config.toml"
    path.write_text(text.replace(before, after, 1))
    tokenizer = None if what == "tokenizer" else tmp_path / "never read"
    with pytest.raises(ConfigError, match=said) as caught:
        train(what, path, tmp_path / "out", tokenizer=tokenizer, data=tmp_path)
    assert "\n" not in str(caught.value)


def test_minutes_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--minutes is nan; it must lie between 0 and"):
        train("tokenizer", tmp_path / "c.toml", tmp_path, minutes=float("nan"))
