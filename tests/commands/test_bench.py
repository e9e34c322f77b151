import re
from pathlib import Path

import pytest

from tests.worlds.commands import called
from tests.worlds.native import PROMPT, write_native


def test_the_speed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_native(tmp_path)
    assert called(monkeypatch, "bench", folder, "--quick", "--prompt", PROMPT) == 0
    told = re.fullmatch(
        r"\S+ on cpu \(fp32, \d+ threads, \d+ steps\): (\d+\.\d+) s a picture, "
        r"(\d+\.\d) pictures a second 8 at a time\n",
        capsys.readouterr().out,
    )
    assert told is not None
    assert float(told[2]) > 0
