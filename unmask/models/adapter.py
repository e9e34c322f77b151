"""Low-rank adapters (LoRA, arXiv 2106.09685): small files that change the weights of a model.

Three layouts are read, all as safetensors: what diffusers' mixins write (``transformer.`` or
``unet.``, a module's name, ``lora_A`` and ``lora_B``), what peft writes (a folder with
``adapter_config.json``), and kohya's (``lora_unet_`` and a name with underscores). Ours is the
first, with rank and alpha in its metadata.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unmask.checkpoint import write_tensors
from unmask.errors import ConfigError, choices, shown

WORDS = "words"
METADATA = "lora_adapter_metadata"  # where newer writers keep rank and alpha, as JSON
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DOWN, UP = "lora_A", "lora_B"  # what narrows, (rank, in), and what widens again, (out, rank)
MOST_SCALE = 100.0
WITH = "+"  # between the name of a model and that of its adapter

_REFERENCE = re.compile(r"(?P<path>.+?)(?:@(?P<scale>[^@/\\]*))?", re.DOTALL)
_NETWORKS = ("transformer.", "unet.", "base_model.model.")
_OLDER = {"lora.down": DOWN, "lora.up": UP, "lora_down": DOWN, "lora_up": UP}
_PART = re.compile(rf"(?P<module>.+)\.(?P<part>{DOWN}|{UP})(\.default)?\.weight")


@dataclass(frozen=True)
class Adapter:
    """An adapter at ``path``, a file or a folder of peft's, added ``scale`` times.

    Files of diffusers' ``train_amused.py`` hold no alpha, and are made for alpha / rank = 2 with
    its defaults: they want a ``scale`` of 2.
    """

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Adapter":
        """From ``PATH`` or ``PATH@SCALE``; ConfigError if there is no such file or number."""
        found = _REFERENCE.fullmatch(text)
        if found is None or "\0" in text:
            raise ConfigError(f"adapter {shown(text)}: give PATH or PATH@SCALE")
        path, written = Path(found["path"]), found["scale"]
        if written is not None and (path_too := Path(text)).exists():  # a name with an @ in it
            path, written = path_too, None
        try:
            scale = 1.0 if written is None else float(written)
        except ValueError:
            scale = math.nan
        if not abs(scale) <= MOST_SCALE:
            raise ConfigError(
                f"adapter {shown(text)}: the scale is no number from {-MOST_SCALE:g} to "
                f"{MOST_SCALE:g}"
            )
        if not path.exists():
            raise ConfigError(f"adapter {shown(text)}: there is no file or folder {path}")
        return cls(path, scale)

    @property
    def name(self) -> str:
        """What it is called: its file's name without the ending, or its folder's."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a model knows with it, if it tells. ConfigError as for ``merge``."""
        words = self._read[1].get(WORDS) or []
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"{self.path}: {WORDS} is no list of words")
        return tuple(word for word in words if word.isprintable())

    @cached_property
    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return _read(self.path)

    def name_of(self, model: str) -> str:
        """What the model of a name is called with it."""
        return f"{model}{WITH}{self.name}"

    def merge(self, backbone: nn.Module) -> None:
        """Add what it says to the weights of a backbone, in fp32, cast once.

        ConfigError names the file and what is wrong: a pickle, a module that the model lacks, a
        shape that does not fit, a number that is not finite, a kind of adapter that is not LoRA.
        """
        network = backbone.transformer if hasattr(backbone, "transformer") else backbone
        assert isinstance(network, nn.Module)
        changes = _changes(self.path, *self._read, _names(backbone, network))
        for name, (down, up, factor) in changes.items():
            weight = backbone.get_parameter(name)
            fits = down.ndim == up.ndim == weight.ndim and len(down) == up.shape[1]
            made = (len(up), *down.shape[1:])
            if not fits or made != tuple(weight.shape):
                raise ConfigError(
                    f"{self.path}: {name} has the shape {list(weight.shape)}, and the adapter is "
                    f"for {list(made)}"
                )
            change = up.float().flatten(1) @ down.float().flatten(1) * (factor * self.scale)
            if not torch.isfinite(change).all():
                raise ConfigError(f"{self.path}: {name} would get values that are not finite")
            changed = weight.data.float() + change.view_as(weight).to(weight.device)
            weight.data.copy_(changed)


def write_adapter(
    changes: Mapping[str, tuple[Tensor, Tensor]],
    alpha: float,
    path: Path,
    words: Sequence[str] | None = None,
) -> None:
    """Write what narrows and what widens for each module (by its name in the network), all of one
    rank, in the layout of diffusers' mixins; and the ``words`` that a model knows with it."""
    state: dict[str, Tensor] = {}
    rank = 0
    for module, (down, up) in changes.items():
        rank = len(down)
        for part, tensor in ((DOWN, down), (UP, up)):
            state[f"transformer.{module}.{part}.weight"] = (
                tensor.detach().float().cpu().contiguous()
            )
    told = {"transformer.r": rank, "transformer.lora_alpha": alpha, WORDS: words}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(state, path, {"format": "pt", METADATA: json.dumps(told)})


def _names(backbone: nn.Module, network: nn.Module) -> dict[str, str]:
    """The weights of a backbone (its parameters' names) by all names that files have for their
    modules."""
    names: dict[str, str] = {}
    inner = "transformer." if network is not backbone else ""
    for parameter, _ in backbone.named_parameters():
        module = parameter.removesuffix(".weight")
        if module == parameter:
            continue
        if module.startswith(inner):
            own = module.removeprefix(inner)
            for prefix in _NETWORKS:
                names[prefix + own] = parameter
            for prefix in ("lora_unet_", "lora_transformer_"):
                names[prefix + own.replace(".", "_")] = parameter
        elif module.startswith("text_encoder."):
            names[module] = parameter
            names["lora_te_" + module.removeprefix("text_encoder.").replace(".", "_")] = parameter
    return names


def _changes(
    path: Path,
    state: Mapping[str, Tensor],
    told: Mapping[str, Any],
    names: Mapping[str, str],
) -> dict[str, tuple[Tensor, Tensor, float]]:
    """What narrows, what widens and its factor, by the name of the weight that they change."""
    alphas = {name.removesuffix(".alpha"): name for name in state if name.endswith(".alpha")}
    parts: dict[str, dict[str, Tensor]] = {}
    modules: dict[str, str] = {}
    for name in state.keys() - alphas.values():
        module, part = _part(name, path)
        if module not in names:
            raise ConfigError(
                f"{path}: the model has no layer {shown(module)}; {choices(module, names)}"
                if names
                else f"{path}: the model has no layers that it could change"
            )
        modules[module] = names[module]
        parts.setdefault(module, {})[part] = state[name]
    if not parts:
        raise ConfigError(f"{path}: holds no adapter: there are no {DOWN} and {UP} in it")
    if lost := sorted(alphas.keys() - parts.keys()):
        raise ConfigError(f"{path}: {alphas[lost[0]]} belongs to no layer in it")
    changes = {}
    for module, both in parts.items():
        if both.keys() != {DOWN, UP}:
            raise ConfigError(f"{path}: {module} has only one of {DOWN} and {UP}")
        rank = len(both[DOWN])
        if module in alphas:
            factor = float(state[alphas[module]]) / max(1, rank)
        else:
            factor = _factor(told, rank, path)
        changes[modules[module]] = (both[DOWN], both[UP], factor)
    return changes


def _part(name: str, path: Path) -> tuple[str, str]:
    """A tensor's module and which of the two it is."""
    plain = name.replace("._orig_mod.", ".").removeprefix("_orig_mod.")
    for old, new in _OLDER.items():
        plain = plain.replace(f".{old}.", f".{new}.")
    found = _PART.fullmatch(plain)
    if found is None:
        kind = "DoRA, which is not read" if "magnitude" in name else "not part of a LoRA"
        raise ConfigError(f"{path}: {shown(name)} is {kind}")
    return found["module"], found["part"]


def _factor(told: Mapping[str, Any], rank: int, path: Path) -> float:
    """What the product of both is worth: alpha / rank, and 1 where no alpha is told."""
    found = next((told[key] for key in told if key.split(".")[-1] == "lora_alpha"), None)
    if found is None or not rank:
        return 1.0
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{path}: lora_alpha is {shown(found)}, not a number")
    rooted = any(told[key] is True for key in told if key.split(".")[-1] == "use_rslora")
    return float(found) / (math.sqrt(rank) if rooted else rank)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of an adapter, and what it tells beside them."""
    file = path / PEFT_WEIGHTS if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        plain = sorted(path.glob("*.safetensors"))
        if len(plain) != 1:
            found = ", ".join(entry.name for entry in plain) or "none"
            raise ConfigError(f"{path}: one .safetensors file is wanted, {found} found")
        file = plain[0]
    if file.suffix != ".safetensors":
        raise ConfigError(f"{file}: adapters are read from .safetensors files alone, never pickles")
    try:
        with safe_open(file, "pt") as opened:
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            told = dict(json.loads((opened.metadata() or {}).get(METADATA, "{}")))
        config = file.with_name(PEFT_CONFIG)
        if config.is_file():
            told = dict(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ConfigError(f"{file}: not a complete adapter: {error}") from error
    for key in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if any(told[name] for name in told if name.split(".")[-1] == key):
            raise ConfigError(f"{file}: it uses {key}, which is not read")
    return state, told
