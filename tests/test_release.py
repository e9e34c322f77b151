"""What is released: an sdist, and the wheel that is built from it.

``make release-test`` installs the wheel into a fresh environment, and names that one's command in
``RELEASED_UNMASK``.
"""

import base64
import os
import re
import subprocess
import sys
import time
import zipfile
from email.parser import Parser
from pathlib import Path

import httpx2
import pytest

from unmask import __version__

ROOT = Path(__file__).parents[1]
RELEASED = os.environ.get("RELEASED_UNMASK")
SECONDS = 60
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    [sdist] = folder.glob("*.tar.gz")
    assert sdist.name == f"unmask-{__version__}.tar.gz"
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Weights, the page, lists and notices too, though it was built from the sdist."""
    there = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "unmask").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {Path(name).suffix for name in there} >= {".py", ".safetensors", ".js", ".txt", ".html"}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("unmask/")}
        assert held == there
        information = f"unmask-{__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{information}/METADATA").decode())
        assert f"{information}/licenses/LICENSE" in archive.namelist()
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_version_is_the_newest_of_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    if headings[0] == "[Unreleased]":
        headings = headings[1:]
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", line) for line in headings]
    assert all(released), headings
    versions = [tuple(map(int, match[1].split("."))) for match in released if match]
    assert versions == sorted(versions, reverse=True)
    assert ".".join(map(str, versions[0])) == __version__


@pytest.mark.skipif(RELEASED is None, reason="make release-test installs what it needs")
def test_what_was_installed_serves_and_draws(tmp_path: Path) -> None:
    """From an empty folder, so that nothing of the source is at hand."""
    assert RELEASED is not None
    log = tmp_path / "log"
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UNMASK_PORT": "0"}
    with (
        log.open("w") as said,
        subprocess.Popen(
            [RELEASED, "serve"], cwd=tmp_path, env=variables, stdout=said, stderr=said
        ) as server,
    ):
        try:
            url = _address(server, log)
            _wait_until_ready(url)
            answer = httpx2.post(
                f"{url}/v1/images/generations", json={"prompt": "a red apple"}, timeout=SECONDS
            )
            page = httpx2.get(url, timeout=SECONDS)
        finally:
            server.terminate()
        assert server.wait(SECONDS) == 0
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]).startswith(PNG)
    assert page.headers["content-type"].startswith("text/html")


def _address(server: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address that a server says it listens on."""
    for _ in range(SECONDS * 10):
        if found := re.search(r"running on (http://[\d.:]+)", log.read_text(encoding="utf-8")):
            return found[1]
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(log.read_text(encoding="utf-8"))


def _wait_until_ready(url: str) -> None:
    end = time.monotonic() + SECONDS
    while (answer := httpx2.get(f"{url}/readyz")).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
