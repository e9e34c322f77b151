"""The command as a shell calls it."""

import sys

import pytest

from unmask.commands import run as app


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of ``unmask`` with these arguments, in this process."""
    monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        app()
    code = caught.value.code
    assert isinstance(code, int | None)
    return code or 0
