"""What the machine has, as far as this process may use it: a container has less than its host."""

from pathlib import Path

_CONTROL = Path("/sys/fs/cgroup")  # of Linux, version 2
_MEMORY = Path("/proc/meminfo")


def memory_bytes() -> tuple[int, int] | None:
    """All memory that this process may have, and what of it is free; None if nothing tells."""
    words = dict(line.split(":", 1) for line in _read(_MEMORY).splitlines() if ":" in line)
    try:
        total, free = (int(words[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError):
        return None
    bound, used = _read(_CONTROL / "memory.max"), _read(_CONTROL / "memory.current")
    if bound.isdigit() and used.isdigit():
        total, free = min(total, int(bound)), min(free, max(0, int(bound) - int(used)))
    return total, free


def instructions() -> list[str]:
    """What the processor has of the instructions that make a difference here, by torch's account;
    none on another kind of processor."""
    import torch

    return [
        name
        for name, question in (
            ("AMX", "_is_amx_tile_supported"),
            ("AVX512", "_is_avx512_supported"),
            ("AVX512-BF16", "_is_avx512_bf16_supported"),
            ("VNNI", "_is_vnni_supported"),
            ("AVX2", "_is_avx2_supported"),
        )
        if getattr(torch.cpu, question, lambda: False)()
    ]


def _read(path: Path) -> str:
    """The text of a file of the system, empty if there is none."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
