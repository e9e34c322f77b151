"""unmask doctor: what there is, and a line for each thing that is wrong."""

import json
import re
import socket
from pathlib import Path

import pytest

from tests.worlds.commands import called
from unmask.commands import checks, machine
from unmask.commands.checks import CHECKS
from unmask.settings import load_settings


@pytest.fixture(autouse=True)
def _free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_PORT", "0")
    monkeypatch.setenv("UNMASK_STORE_BYTES", str(1 << 20))
    monkeypatch.setenv("UNMASK_THREADS", "1")


def wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the doctor finds wrong, by the names of the checks."""
    code = called(monkeypatch, "doctor", "--json")
    findings = json.loads(capsys.readouterr().out)
    found = {finding["name"]: finding["told"] for finding in findings if finding["wrong"]}
    assert code == (1 if found else 0)
    return found


def test_a_machine_that_serves_has_a_line_for_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(monkeypatch, "doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split("[ :]+", line, maxsplit=1)[0] for line in lines] == ["ok"] * len(CHECKS)
    assert [line.removeprefix("ok     ").split(": ")[0] for line in lines] == list(CHECKS)
    assert any(re.search(r"storybook \(\d+ MiB\)", line) for line in lines)
    assert not load_settings().state_folder.exists()


@pytest.mark.parametrize(
    ("variable", "value", "check", "words"),
    [
        ("MAX_QUEUE", "0", "settings", "UNMASK_MAX_QUEUE '0'"),
        ("DEVICE", "bogus", "devices", "UNMASK_DEVICE: device 'bogus'"),
        ("MORE_MODELS", '["nope"]', "models", "UNMASK_MORE_MODELS: model 'nope'"),
        ("THREADS", "1024", "threads", "leave UNMASK_THREADS at 0"),
        ("MEMORY_BYTES", str(1 << 60), "memory", "UNMASK_MEMORY_BYTES is"),
        ("MODERATION", "/no/such", "moderation", "UNMASK_MODERATION /no/such"),
        ("STATE_DIR", "/dev/null/state", "state", "nothing can be written there"),
        ("STORE_BYTES", str(1 << 60), "state", "UNMASK_STORE_BYTES"),
        ("MAX_UPLOAD_BYTES", str(1 << 60), "temporary files", "UNMASK_MAX_UPLOAD_BYTES"),
        ("HOST", "0.0.0.0", "keys", "there are no keys"),
    ],
)
def test_what_is_wrong_is_told_with_its_setting(
    variable: str,
    value: str,
    check: str,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"UNMASK_{variable}", value)
    found = wrong(capsys, monkeypatch)
    assert words in found[check]


def test_a_port_that_is_taken_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("UNMASK_PORT", str(listener.getsockname()[1]))
        assert "cannot listen on 127.0.0.1" in wrong(capsys, monkeypatch)["address"]


def test_a_database_that_is_none_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = load_settings().state_folder
    folder.mkdir()
    (folder / "jobs.sqlite").write_text("no database")
    assert "jobs.sqlite: it cannot be used" in wrong(capsys, monkeypatch)["database"]


def test_memory_that_models_do_not_fit_into_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "memory_bytes", lambda: (1 << 30, 1 << 20))
    assert "1 MiB of memory are free" in wrong(capsys, monkeypatch)["memory"]


def test_no_place_for_temporary_files_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", none)
    assert "TMPDIR" in wrong(capsys, monkeypatch)["temporary files"]


def test_a_container_has_what_its_bounds_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CONTROL", tmp_path)
    before = machine.memory_bytes()
    assert before is not None
    for name, text in {
        "memory.max": str(64 << 20),
        "memory.current": str(60 << 20),
    }.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert machine.memory_bytes() == (64 << 20, 4 << 20)
    (tmp_path / "memory.max").write_text("max\n")
    after = machine.memory_bytes()
    assert after is not None
    assert after[0] == before[0]
