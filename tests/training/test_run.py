from pathlib import Path

import pytest

from unmask import config
from unmask.errors import ConfigError
from unmask.training.judge import JudgeTraining
from unmask.training.run import What, train
from unmask.training.tokenizer import TokenizerTraining
from unmask.training.transformer import TransformerTraining

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS: dict[str, type[TokenizerTraining | TransformerTraining | JudgeTraining]] = {
    "tokenizer": TokenizerTraining,
    "decoder": TokenizerTraining,
    "transformer": TransformerTraining,
    "judge": JudgeTraining,
}


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*/*.toml")) - set(CONFIGS.glob("eval/*"))), ids=str
)
def test_every_configuration_in_the_repository_is_valid(path: Path) -> None:
    assert config.load(KINDS[path.stem], path).loop.steps > 0


@pytest.mark.parametrize("size", ["small", "full", "folder"])
def test_tokenizer_and_transformer_of_a_size_see_the_same_data(size: str) -> None:
    tokenizer = config.load(TokenizerTraining, CONFIGS / size / "tokenizer.toml")
    transformer = config.load(TransformerTraining, CONFIGS / size / "transformer.toml")
    for name in ("kind", "nouns", "styles"):
        assert getattr(tokenizer.data, name) == getattr(transformer.data, name)
    assert tokenizer.data.scenes.size == transformer.data.scenes.size


@pytest.mark.parametrize("what", ["transformer", "judge"])
def test_what_needs_a_tokenizer_is_told_what_to_give(what: What, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"a {what} needs --tokenizer"):
        train(what, CONFIGS / "small" / f"{what}.toml", tmp_path)


def test_a_missing_configuration_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file"):
        train("tokenizer", tmp_path / "nowhere.toml", tmp_path)
