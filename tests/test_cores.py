import math
import os
from pathlib import Path

import pytest

from unmask import cores
from unmask.cores import Threads, are_shared, cpu_quota, threads_for


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed_cores", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def _machine(folder: Path, groups: str, **files: str) -> Path:
    """A file system whose process is in these groups; names have __ for / and ___ for a dot."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = folder / "sys/fs/cgroup" / name.replace("___", ".").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu___max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu___max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a__cpu___max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a__b__cpu___max": "300000 100000", "a__cpu___max": "200000 100000"}, 2),
        ("0::/../elsewhere:x\n", {"cpu___max": "300000 100000\n"}, 3),
        ("0::/\n", {"unified__cpu___max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu___max": "nonsense\n"}, math.inf),
        (
            "4:memory:/x\n2:cpu,cpuacct:/box\n",
            {
                "cpu,cpuacct__box__cpu___cfs_quota_us": "400000\n",
                "cpu,cpuacct__box__cpu___cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            "1:cpu:/\n0::/\n",
            {"cpu__cpu___cfs_quota_us": "-1\n", "cpu__cpu___cfs_period_us": "100000\n"},
            math.inf,
        ),
    ],
)
def test_quotas_of_both_versions_and_of_groups_around(
    groups: str, files: dict[str, str], quota: float, tmp_path: Path
) -> None:
    assert cpu_quota(_machine(tmp_path, groups, **files)) == quota


def test_a_system_without_cgroups_rations_nothing(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf
    assert not are_shared(1, tmp_path)


def test_workers_share_what_is_allowed(tmp_path: Path) -> None:
    assert threads_for(1, root=tmp_path) == Threads(8, "of 16 cores this process may use 8")
    assert threads_for(3, root=tmp_path).count == 2
    assert threads_for(20, root=tmp_path).count == 1
    rationed = _machine(tmp_path, "0::/\n", cpu___max="250000 100000")
    assert threads_for(1, root=rationed) == Threads(
        2,
        "of 16 cores this process may use 8, and its cgroup lets it have the time of 2.5",
    )
    assert are_shared(1, rationed)
    assert are_shared(2, tmp_path)


def test_who_says_how_many_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_for(2, root=tmp_path) == Threads(3, "as OMP_NUM_THREADS says")
    assert threads_for(2, 5, root=tmp_path) == Threads(5, "as the settings say")
