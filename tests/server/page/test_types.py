import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCAL = ROOT / "build/npm/node_modules/.bin/tsc"
TSC = str(LOCAL) if LOCAL.exists() and shutil.which("node") else shutil.which("tsc")


@pytest.mark.skipif(TSC is None, reason=f"needs node, and typescript of npm in {LOCAL.parent}")
def test_the_types_of_the_page_hold() -> None:
    assert TSC
    checked = subprocess.run([TSC, "-p", ROOT], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
