import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest

import unmask

ROOT = Path(__file__).parents[1]


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, unmask; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pipeline_is_exposed_lazily() -> None:
    from unmask.pipeline import Pipeline

    assert unmask.Pipeline is Pipeline
    assert "Pipeline" in dir(unmask)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        unmask.Pipelin  # noqa: B018


def test_the_version_is_told_the_same_everywhere() -> None:
    assert unmask.__version__ == version("unmask")  # which the build reads from the former


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in pins if "==" in pin}
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [
        wish for extra in ("server", "train", "eval", "dev") for wish in extras[extra]
    ]
    assert {re.split(r"[\[>=]", name)[0] for name in wanted} <= pinned


def test_the_package_says_that_it_is_typed() -> None:
    assert files("unmask").joinpath("py.typed").is_file()
