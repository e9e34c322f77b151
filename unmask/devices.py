"""The devices that weights can be put on, and in which precision; torch is imported on use."""

from typing import Literal

from unmask.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]


def usable_device(name: str | None) -> str:
    """``name`` if torch can use it here, else ConfigError; None means a GPU if there is one."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).add_(1).item()
    except (RuntimeError, AssertionError) as error:
        found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ConfigError(
            f"device {name[:80]!r} cannot be used here; there is: {', '.join(found)}"
        ) from error
    return name
