"""What every test shares: the same random numbers each run, and no time limits on properties."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("unmask", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("unmask")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have keys; no test may meet them."""
    monkeypatch.setenv("UNMASK_STATE_DIR", str(tmp_path / "state"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(skip)
