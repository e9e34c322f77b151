"""Requests made up from /openapi.json, good and bad: no server error, no answer that it does not
tell of. ``make fuzz`` sends more of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds.server import FakePipeline, live_server, wait_until
from unmask.server.engine.engine import EngineState
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import load_settings

CASES = int(os.environ.get("FUZZ_CASES", "200"))
SHORT = 1000  # fewer cases go without those that are counted up from the bounds
ROUTES = 34
# A request may be refused though each of its fields is well (two that exclude each other, say), and
# what breaks the document as a list, such as an empty one, may be a good form, where it is nothing.
NOT_HELD = "positive_data_acceptance,negative_data_rejection"


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [False, True], ids=["open", "with keys"])
def test_every_answer_is_one_that_the_document_tells_of(
    pipeline: FakePipeline, tmp_path: Path, keyed: bool
) -> None:
    """With keys, schemathesis also leaves the key out and gives a wrong one, where the document
    declares that a route wants one: each must be refused."""
    phases = "fuzzing" if CASES < SHORT else "coverage,fuzzing,stateful"
    headers: list[str] = []
    if keyed:
        key = KeyFile(load_settings().state_folder).add("ann", ["draw", "admin"], Limits())
        headers = ["--header", f"Authorization: Bearer {key}"]
    with live_server(lambda key, device: pipeline) as server:
        wait_until(lambda: server.engine.state is EngineState.READY)
        document = f"http://127.0.0.1:{server.bound_port}/openapi.json"
        command = [sys.executable, "-m", "schemathesis.cli", "run", document, "--no-color"]
        command += ["--max-examples", str(CASES // ROUTES), "--phases", phases]
        command += ["--exclude-checks", NOT_HELD, "--generation-deterministic", *headers]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    generated = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert generated is not None, run.stdout
    assert int(generated[2]) >= CASES / 2, run.stdout
