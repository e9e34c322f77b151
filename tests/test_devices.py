import pytest
import torch

from unmask.devices import usable_device
from unmask.errors import ConfigError


def test_the_cpu_is_always_there() -> None:
    assert usable_device("cpu") == "cpu"
    assert usable_device(None) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["bogus", "cuda:99", "meta", ""])
def test_a_device_that_cannot_compute_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="there is: cpu"):
        usable_device(name)
