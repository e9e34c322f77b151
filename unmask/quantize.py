"""Model folders with weights of eight bits: half the size of bf16 on disk, whatever the family."""

import shutil
from pathlib import Path

from unmask.checkpoint import write_eight_bits
from unmask.drafts import new_folder
from unmask.errors import ConfigError


def quantize(source: Path, out: Path) -> Path:
    """The new folder ``out``, the model folder ``source`` with its matrices as eight bits; whole or
    not at all.

    It loads as ``source`` does, at any precision. RequestError says that ``out`` is taken or cannot
    be written, ConfigError that ``source`` holds no weights or broken ones.
    """
    if not any(source.rglob("*.safetensors")):
        raise ConfigError(f"{source}: no folder that holds .safetensors files")
    with new_folder(out) as draft:
        shutil.copytree(source, draft)
        for path in draft.rglob("*.safetensors"):
            write_eight_bits(path)
    return out
