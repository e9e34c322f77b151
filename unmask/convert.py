"""Published checkpoints that are pickles, turned into our layout once, offline.

Nowhere else is a pickle read, and here only as torch's ``weights_only`` does it: tensors, numbers,
strings, and containers of them; whatever else a file asks for is refused and never run.
"""

import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from unmask.checkpoint import fill_module, save_folder
from unmask.drafts import new_folder
from unmask.errors import ConfigError, RequestError
from unmask.families.halton_maskgit import CLASS
from unmask.models.conditions import LabelCondition
from unmask.models.halton_maskgit import HaltonConfig, HaltonMaskGIT
from unmask.models.imagenet import imagenet_labels
from unmask.tokenizers.llamagen import LlamaGenConfig, LlamaGenVQ

S = TypeVar("S")

# By width: the tensors do not tell, and there are no others.
HEADS = {384: 6, 512: 6, 768: 12, 1024: 16, 1152: 16}


def convert(source: Path, out: Path, tokenizer: Path | None, half: bool = False) -> Path:
    """The folder ``out``, a model made of published files; RequestError and ConfigError as for
    ``convert_halton``.

    ``source`` is the transformer's file; ``tokenizer`` that of its tokenizer, which is published
    apart.
    """
    for path in (source, *([tokenizer] if tokenizer else [])):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
    if tokenizer is None:
        raise RequestError(
            "tokenizer: Halton-MaskGIT draws with LlamaGen's, which is published apart; name its "
            "file too (vq_ds16_c2i.pt)",
            "tokenizer",
        )
    return convert_halton(source, tokenizer, out, half)


def convert_halton(transformer: Path, tokenizer: Path, out: Path, half: bool = False) -> Path:
    """A Halton-MaskGIT ``.pth`` and LlamaGen's ``.pt`` as the new folder ``out``, whole or not at
    all.

    Weights keep their type; ``half`` writes the transformer's as fp16. ConfigError names the file
    and the tensor that is not what it should be, RequestError says that ``out`` is taken or cannot
    be written.
    """
    with new_folder(out) as draft:
        backbone, vq = _halton(transformer), _llamagen(tokenizer)
        if backbone.codebook_size != vq.codebook_size:
            raise ConfigError(
                f"{transformer} knows {backbone.codebook_size} codes, but {tokenizer} has "
                f"{vq.codebook_size}"
            )
        classes = backbone.config.classes
        numbers = [str(number) for number in range(classes)]
        labels = imagenet_labels()
        condition = LabelCondition(labels if classes == len(labels) else numbers)
        for name, module, narrow in (("transformer", backbone, half), ("tokenizer", vq, False)):
            save_folder(module, module.config, draft / name, narrow)
        condition.save(draft)
        index = json.dumps({"_class_name": CLASS}, indent=2)
        (draft / "model_index.json").write_text(index + "\n", encoding="utf-8")
    return out


def _halton(path: Path) -> HaltonMaskGIT:
    """The transformer of a published file, in the file's type."""
    state = _tensors(path, "model_state_dict")
    known, width = _shape(state, "cls_emb.weight", 2, path)
    codes = _shape(state, "tok_emb.weight", 2, path)[0]
    cells = _shape(state, "pos_emb.weight", 2, path)[0]
    if width not in HEADS:
        raise ConfigError(
            f"{path}: cls_emb.weight is {width} wide; the published widths are "
            f"{', '.join(map(str, HEADS))}"
        )
    if math.isqrt(cells) ** 2 != cells:
        raise ConfigError(f"{path}: pos_emb.weight has {cells} rows, which make no square grid")
    head = state.pop("head.weight", None)
    if head is not None and not torch.equal(head, state["tok_emb.weight"]):
        raise ConfigError(f"{path}: head.weight is not tok_emb.weight; expected them to be tied")
    settings = _settings(
        path,
        lambda: HaltonConfig(
            width=width,
            layers=_count(state, r"transformer\.layers\.(\d+)\."),
            heads=HEADS[width],
            hidden=_shape(state, "transformer.layers.0.ff.w1.weight", 2, path)[0],
            grid=math.isqrt(cells),
            codebook_size=codes - 1,
            classes=known - 1,
            registers=_shape(state, "reg_tokens.weight", 2, path)[0],
        ),
    )
    return fill_module(lambda: HaltonMaskGIT(settings), state, path)


def _llamagen(path: Path) -> LlamaGenVQ:
    """The tokenizer of a published file, in the file's type."""
    state = _tensors(path, "model")
    state.pop("quantize.codebook_used", None)  # a statistic of the training
    codes, code_width = _shape(state, "quantize.embedding.weight", 2, path)
    channels = _shape(state, "encoder.conv_in.weight", 4, path)[0]
    levels = _count(state, r"encoder\.conv_blocks\.(\d+)\.")
    widths = [
        _shape(state, f"encoder.conv_blocks.{level}.res.0.conv1.weight", 4, path)[0]
        for level in range(levels)
    ]
    settings = _settings(
        path,
        lambda: LlamaGenConfig(
            channels=channels,
            multipliers=tuple(width // channels for width in widths),
            latent_channels=_shape(state, "encoder.conv_out.weight", 4, path)[0],
            codebook_size=codes,
            code_width=code_width,
            blocks=_count(state, r"encoder\.conv_blocks\.0\.res\.(\d+)\."),
        ),
    )
    return fill_module(lambda: LlamaGenVQ(settings), state, path)


def _tensors(path: Path, key: str) -> dict[str, Tensor]:
    """The tensors that a file keeps under ``key``, without what wrappers put before their names."""
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except Exception as error:  # a malformed file makes torch raise anything
        # Of torch's own words the name alone: they go on to tell how to run the file after all.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked and isinstance(error, pickle.UnpicklingError):
            raise ConfigError(
                f"{path}: asks for {asked[1]}, which is neither tensor nor number: it is not read, "
                "for that could run anything; get a file of tensors alone"
            ) from error
        raise ConfigError(f"{path}: not a complete torch file") from error
    state = content.get(key) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ConfigError(f"{path}: expected a table with the entry {key!r}")
    named = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ConfigError(f"{path}: {key}: {name!r} is no tensor")
        named[re.sub(r"^(module\.|_orig_mod\.)+", "", name)] = tensor
    return named


def _shape(state: dict[str, Tensor], name: str, axes: int, path: Path) -> torch.Size:
    if name not in state or state[name].ndim != axes or not state[name].numel():
        found = list(state[name].shape) if name in state else "missing"
        raise ConfigError(f"{path}: {name} is {found}; expected {axes} axes, none of them empty")
    return state[name].shape


def _count(state: dict[str, Tensor], numbered: str) -> int:
    """How many different numbers stand in the names that begin so."""
    return len({found[1] for name in state if (found := re.match(numbered, name))})


def _settings(path: Path, make: Callable[[], S]) -> S:
    try:
        return make()
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
