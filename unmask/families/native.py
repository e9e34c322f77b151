"""Our own layout: ``model.json``, ``tokenizer/`` and ``transformer/``, and ``slots/`` of a model of
clips.
"""

from pathlib import Path

from unmask import config
from unmask.box import BUNDLED, available_models
from unmask.card import ModelCard
from unmask.checkpoint import DTYPES
from unmask.devices import Precision
from unmask.errors import ConfigError, choices
from unmask.families.base import Family, Parts
from unmask.models.folder import load_native
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.clip import ClipTokenizer
from unmask.tokenizers.folder import load_slot_decoder, load_tokenizer
from unmask.tokenizers.key_frames import KeyFrameTokenizer
from unmask.tokenizers.vqgan import VQGAN


def _recognises(folder: Path) -> bool:
    return (folder / "model.json").is_file()


def _card(folder: Path, name: str) -> ModelCard:
    """The card as written: a native model knows its name."""
    return config.load(ModelCard, folder / "model.json")


def _load(folder: Path, device: str, precision: Precision) -> Parts:
    tokenizer = _tokenizer(folder, device)
    backbone, condition = load_native(folder / "transformer", device)
    if isinstance(tokenizer, ClipTokenizer) != (len(backbone.grid) == 3):
        raise ConfigError(
            f"{folder}: the transformer draws a grid of {len(backbone.grid)} axes; clips have 3 "
            "and a slot decoder in slots/, pictures 2 and none"
        )
    if backbone.codebook_size != tokenizer.codebook_size:
        raise ConfigError(
            f"{folder}: the transformer knows {backbone.codebook_size} codes, "
            f"the tokenizer has {tokenizer.codebook_size}"
        )
    for parameter in backbone.parameters():  # not the angles, which need all their digits
        parameter.data = parameter.data.to(DTYPES[precision])
    return Parts(tokenizer, backbone, condition)


def picture_tokenizer(folder: Path, device: str) -> VQGAN:
    """The tokenizer of pictures of a model's folder, or that of the bundled model which its card
    names. ConfigError."""
    shared = _card(folder, folder.name).tokenizer
    if shared is not None and shared not in available_models():
        raise ConfigError(
            f"{folder / 'model.json'}: tokenizer {shared!r}: {choices(shared, available_models())}"
        )
    return load_tokenizer((BUNDLED / shared if shared else folder) / "tokenizer", device)


def _tokenizer(folder: Path, device: str) -> Tokenizer:
    pictures = picture_tokenizer(folder, device)
    if not (folder / "slots").is_dir():
        return pictures
    decoder = load_slot_decoder(folder / "slots", pictures, device)
    return KeyFrameTokenizer(pictures, decoder).eval().requires_grad_(False)


NATIVE = Family(
    name="native",
    layout="model.json, tokenizer/ and transformer/",
    recognises=_recognises,
    card=_card,
    load=_load,
    files=lambda precision: ("model.json", "tokenizer/*", "transformer/*", "slots/*"),
)
