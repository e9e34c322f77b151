"""Our own layout: ``model.json``, ``tokenizer/`` and ``transformer/``."""

from pathlib import Path

from unmask import config
from unmask.card import ModelCard
from unmask.checkpoint import DTYPES
from unmask.devices import Precision
from unmask.errors import ConfigError
from unmask.families.base import Family, Parts
from unmask.models.folder import load_native
from unmask.tokenizers.folder import load_tokenizer


def _recognises(folder: Path) -> bool:
    return (folder / "model.json").is_file()


def _card(folder: Path, name: str) -> ModelCard:
    """The card as written: a native model knows its name."""
    return config.load(ModelCard, folder / "model.json")


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    tokenizer = load_tokenizer(folder / "tokenizer", device)
    backbone, condition = load_native(folder / "transformer", device)
    if backbone.codebook_size != tokenizer.codebook_size:
        raise ConfigError(
            f"{folder}: the transformer knows {backbone.codebook_size} codes, "
            f"the tokenizer has {tokenizer.codebook_size}"
        )
    for parameter in backbone.parameters():  # not the angles, which need all their digits
        parameter.data = parameter.data.to(DTYPES[precision])
    return Parts(tokenizer, backbone, condition)


NATIVE = Family(
    name="native",
    layout="model.json, tokenizer/ and transformer/",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=lambda precision: ("model.json", "tokenizer/*", "transformer/*"),
)
