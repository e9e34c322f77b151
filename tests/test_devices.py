import subprocess
import sys

import pytest
import torch

from unmask.devices import check_precision, usable_device
from unmask.errors import ConfigError


def test_the_cpu_is_always_there() -> None:
    assert usable_device("cpu") == "cpu"
    assert usable_device(None) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["bogus", "cuda:99", "meta", ""])
def test_a_device_that_cannot_compute_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="there is: cpu"):
        usable_device(name)


def test_eight_bits_ask_for_a_cpu_with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    check_precision("int8", "cpu")
    with pytest.raises(ConfigError, match="for CPUs, and the device is cuda:1: give fp32"):
        check_precision("int8", "cuda:1")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(ConfigError, match="has no AVX512-VNNI"):
        check_precision("int8", "cpu")
    check_precision("bf16", "cuda:1")


@pytest.mark.skipif(sys.platform != "linux", reason="speaks of glibc")
def test_large_blocks_that_were_freed_are_soon_there_again_without_new_pages() -> None:
    """In a process of its own, for the setting is of a process.

    Soon, for what malloc cuts off an aligned block goes to the thread's cache at first (it holds
    seven of a size) and lies between that block and the next.
    """
    script = """
import resource
import torch
from unmask.devices import keep_freed_memory

def faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(2**24)  # 64 MiB, 16384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(1)
assert faults(4) > 40_000
assert keep_freed_memory()
faults(30)
assert faults(10) < 100
"""
    subprocess.run([sys.executable, "-c", script], check=True)
