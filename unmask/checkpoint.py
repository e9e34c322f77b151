"""Weights as safetensors, and nothing else: no pickle is ever read here."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmask.devices import Precision
from unmask.errors import ConfigError

M = TypeVar("M", bound=nn.Module)

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def save_weights(module: nn.Module, path: Path, half: bool = True) -> None:
    """Write a module's state, floating point as fp16 if ``half`` and where its range suffices."""
    state = {}
    for name, tensor in module.state_dict().items():
        kept = tensor.half() if half and tensor.is_floating_point() else tensor
        kept = kept if torch.isfinite(kept).all() else tensor
        state[name] = kept.detach().cpu().contiguous()
    # A reader, or a run that is killed here, must never meet half a file.
    partial = path.with_suffix(".partial")
    partial.touch()
    mode = partial.stat().st_mode
    save_file(state, partial)
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


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: not a complete safetensors file") from error


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


def weights_file(folder: Path, stem: str, precision: str) -> Path:
    """The weights file of a published folder: the fp16 variant for fp16, if it is there, or if it
    is the only one."""
    plain, half = folder / f"{stem}.safetensors", folder / f"{stem}.fp16.safetensors"
    if half.exists() and (precision == "fp16" or not plain.exists()):
        return half
    return plain
