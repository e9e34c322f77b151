"""The devices that weights can be put on, and in which precision; torch is imported on use."""

import ctypes
import sys
from typing import TYPE_CHECKING, Literal

from unmask.errors import ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16", "int8"]
# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


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


def check_precision(precision: Precision, device: str) -> None:
    """ConfigError if a backbone cannot have that precision on the device: eight bits ask for a CPU
    with VNNI."""
    import torch

    if precision != "int8":
        return
    if torch.device(device).type != "cpu":
        raise ConfigError(
            f"precision int8 is for CPUs, and the device is {device}: give fp32, bf16 or fp16 there"
        )
    if not torch.cpu._is_vnni_supported():
        raise ConfigError(
            "precision int8: this processor has no AVX512-VNNI, without which products of eight "
            "bits are slow and may overflow; give fp32 or bf16"
        )


def sent(tensor: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """A tensor of the CPU on a device; on a GPU, without waiting for what runs there."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def reserved_bytes() -> dict[str, int]:
    """What torch holds of each GPU's memory, used or not, in this process; none without a GPU."""
    import torch

    # Asking on would make a context, which takes memory itself.
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    return {f"cuda:{i}": torch.cuda.memory_reserved(i) for i in range(torch.cuda.device_count())}


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the next step asks for as much; False if the C
    library is not glibc.

    glibc gives blocks above 32 MiB back at once, which the logits of a batch exceed; getting them
    anew page by page takes several times what is computed in them. A size is not new any more
    after a few blocks (up to eight were seen), which stay resident.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_THRESHOLD, 2**30), mallopt(_TRIM_THRESHOLD, 2**31 - 1)])
