"""How many cores this process may use, and so how many threads a worker gets; torch, left to
itself, takes those of the machine.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
CONTROLLERS = Path("sys/fs/cgroup")


@dataclass(frozen=True)
class Threads:
    """Of each worker, and why so many."""

    count: int
    reason: str


def threads_for(workers: int, wanted: int = 0, root: Path = ROOT) -> Threads:
    """So many threads for each of the workers on the CPU; ``wanted`` is what the operator says, 0
    for nothing."""
    if wanted:
        return Threads(wanted, "as the settings say")
    if (said := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(said):
        return Threads(int(said), "as OMP_NUM_THREADS says")
    cores, quota = allowed_cores(), cpu_quota(root)
    reason = f"of {os.cpu_count()} cores this process may use {cores}"
    if quota < cores:
        reason += f", and its cgroup lets it have the time of {quota:g}"
        cores = max(1, math.floor(quota))
    if workers > 1:
        reason += f", shared by {workers} workers"
    return Threads(max(1, cores // max(1, workers)), reason)


def are_shared(workers: int, root: Path = ROOT) -> bool:
    """Whether a thread that waits takes time away from another of this process: there are several
    workers, or its time is rationed."""
    return workers > 1 or cpu_quota(root) < allowed_cores()


def allowed_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = ROOT) -> float:
    """The time that the cgroup of this process, or one around it, may have, in cores (versions 1
    and 2); infinity if it is not rationed."""
    return min(_quotas(root), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            bases, read = ("", "unified"), _second_version
        elif "cpu" in controllers.split(","):
            bases, read = (controllers, "cpu"), _first_version
        else:
            continue
        # Within a container the path may be that of the host, and what is mounted the group itself.
        inside = Path(path.lstrip("/"))
        for base in bases:
            for group in (inside, *inside.parents):
                try:
                    yield read(root / CONTROLLERS / base / group)
                except (OSError, ValueError, ZeroDivisionError):
                    continue


def _second_version(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    return math.inf if quota == "max" else int(quota) / int(period)


def _first_version(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
    period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return math.inf if quota < 0 else quota / period
