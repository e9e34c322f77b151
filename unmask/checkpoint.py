"""Weights as safetensors, and nothing else: no pickle is ever read here."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmask import config
from unmask.devices import Precision
from unmask.eight_bits import round_rows
from unmask.errors import ConfigError

M = TypeVar("M", bound=nn.Module)

# Of what is not a product of eight bits, too.
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,
}


# Beside a matrix of eight bits: what one unit is worth in each of its rows, as fp32.
SCALE = ".scale"


def save_folder(module: nn.Module, settings: object, folder: Path, half: bool = True) -> None:
    """Write the weights of a module, in fp16 unless ``half`` is false, and the dataclass that it is
    made by."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save_json(settings, folder / "config.json")
    save_weights(module, folder / "model.safetensors", half)


def save_weights(module: nn.Module, path: Path, half: bool = True) -> None:
    """Write a module's state, floating point as fp16 if ``half`` and where its range suffices."""
    state = {}
    for name, tensor in module.state_dict().items():
        kept = tensor.half() if half and tensor.is_floating_point() else tensor
        kept = kept if torch.isfinite(kept).all() else tensor
        state[name] = kept.detach().cpu().contiguous()
    write_tensors(state, path)


def write_eight_bits(path: Path) -> None:
    """Round the matrices of a weights file to 255 steps a row (the rest stays as it is); reading
    gives fp32. ConfigError if it is no weights file, or a matrix is not finite."""
    state = {}
    for name, tensor in _read(path).items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            if not torch.isfinite(tensor).all():
                raise ConfigError(f"{path}: {name} holds values that are not finite numbers")
            state[name], state[name + SCALE] = round_rows(tensor)
        else:
            state[name] = tensor
    write_tensors(state, path)


def _along(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))


def write_tensors(
    state: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors to a safetensors file, all of it or nothing."""
    # A reader, or a run that is killed here, must never meet half a file.
    partial = path.with_suffix(".partial")
    partial.touch()
    mode = partial.stat().st_mode
    save_file(state, partial, metadata)
    partial.chmod(mode)  # left to itself, save_file makes files that nobody else may read
    os.replace(partial, path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill ``module`` from ``path``; raises ConfigError unless every tensor fits and is finite."""
    dtypes = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    state = _read(path)
    _check(module, state, path)
    module.load_state_dict({name: tensor.to(dtypes[name]) for name, tensor in state.items()})


def load_module(make: Callable[[], M], path: Path, dtype: torch.dtype) -> M:
    """The module that ``make`` gives, its weights read from ``path`` straight into ``dtype``;
    ConfigError as for ``load_weights``."""
    module = fill_module(make, _read(path), path)
    return module.to(dtype).eval().requires_grad_(False)


def fill_module(make: Callable[[], M], state: dict[str, Tensor], path: Path) -> M:
    """The module that ``make`` gives, with these very tensors, which were read from ``path``.

    It is made without memory first, so that no time goes into random numbers and no second copy is
    held; it may have no buffers that the file lacks. ConfigError as for ``load_weights``.
    """
    with torch.device("meta"):
        module = make()
    _check(module, state, path)
    module.load_state_dict(state, assign=True)
    return module


def holds_tensor(path: Path, name: str) -> bool:
    """Whether a weights file, or one of those that an index names, has a tensor of that name;
    False for what cannot be read."""
    try:
        if path.suffix == ".json":
            return name in _weight_map(path)
        with safe_open(path, "pt") as file:
            return name in file.keys()  # noqa: SIM118  (it is no mapping)
    except (ConfigError, OSError, SafetensorError):
        return False


def weights_file(folder: Path, stem: str, precision: str) -> Path:
    """The weights of a published folder, a file or the index of several: the fp16 variant for fp16,
    if it is there, or if it is the only one."""
    found = [
        folder / name
        for half in ((True, False) if precision == "fp16" else (False, True))
        for name in weights_names(stem, half)[:2]
        if (folder / name).is_file()
    ]
    whole = [path for path in found if path.suffix != ".json" or _is_whole(path)]
    return (whole or found or [folder / f"{stem}.safetensors"])[0]


def weights_names(stem: str, half: bool) -> tuple[str, str, str]:
    """How weights are named where they are published: the file, or the index of several and the
    pattern of these."""
    if half:
        index = f"{stem}.safetensors.index.fp16.json"
        return f"{stem}.fp16.safetensors", index, f"{stem}.fp16-*-of-*.safetensors"
    index = f"{stem}.safetensors.index.json"
    return f"{stem}.safetensors", index, f"{stem}-[0-9]*-of-*.safetensors"


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".json":
        state: dict[str, Tensor] = {}
        for name in sorted(set(_weight_map(path).values())):
            state |= _read(path.with_name(name))
        return state
    try:
        return _whole(load_file(path), path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: not a complete safetensors file") from error


def _whole(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state with its matrices of eight bits as fp32."""
    for name in [name for name, tensor in state.items() if tensor.dtype == torch.int8]:
        if (scale := state.pop(name + SCALE, None)) is not None:
            if scale.shape != state[name].shape[:1]:
                raise ConfigError(f"{path}: {name + SCALE} is not one number a row of {name}")
            state[name] = state[name] * _along(scale, state[name])
    return state


def _weight_map(index: Path) -> dict[str, str]:
    """The file beside an index that holds each tensor; ConfigError if it names any other."""
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if all(
            Path(name).name == name and name.endswith(".safetensors") for name in files.values()
        ):
            return dict(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index}: not an index of safetensors files") from error
    raise ConfigError(f"{index}: names files that are no safetensors files beside it")


def _is_whole(index: Path) -> bool:
    """Whether all files of an index are there: from a hub comes the index of each precision, but
    the files of one alone."""
    try:
        names = set(_weight_map(index).values())
    except ConfigError:
        return False
    return bool(names) and all(index.with_name(name).is_file() for name in names)


def _check(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """ConfigError unless the tensors are those of the module, all finite."""
    state_of_module = module.state_dict()
    expected = {name: list(tensor.shape) for name, tensor in state_of_module.items()}
    found = {name: list(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong:
        name = wrong[0]
        raise ConfigError(
            f"{path}: {len(wrong)} tensors do not fit the configuration; {name} is "
            f"{found.get(name, 'missing')}, expected {expected.get(name, 'none')}"
        )
    for name, tensor in state.items():
        numbers = tensor.is_floating_point() == state_of_module[name].is_floating_point()
        if not numbers or not torch.isfinite(tensor).all():
            raise ConfigError(f"{path}: {name} holds values that are not finite numbers")
