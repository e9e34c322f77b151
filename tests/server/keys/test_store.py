"""The file of keys, and a server's view of it while it changes."""

import stat
import threading
from pathlib import Path

import pytest

from unmask.errors import ConfigError
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import OPERATOR, KeyFile, KeyRing


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "some" / "state")


def test_a_key_is_256_random_bits_and_is_not_kept(file: KeyFile) -> None:
    first, second = (file.add(name, ["draw"], Limits()) for name in ("ann", "bob"))
    assert first != second
    assert len(first.removeprefix("unmask-")) == 43  # of 6 bits
    held = file.path.read_text()
    assert first not in held
    assert second not in held


def test_only_its_owner_reads_the_file(file: KeyFile) -> None:
    file.add("ann", ["draw"], Limits())
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_scopes_and_limits_are_kept(file: KeyFile) -> None:
    file.add("ann", ["draw", "metrics"], Limits(jobs_at_once=2))
    [key] = file.read()
    assert key.scopes == {"draw", "metrics"}
    assert key.limits.jobs_at_once == 2
    assert key.limits.tokens_per_day is None


@pytest.mark.parametrize("name", ["", "1st", "127.0.0.1", "a b", "a" * 65, "ann\n", OPERATOR])
def test_a_name_that_might_be_an_address_or_worse_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(ConfigError, match="a name is a letter"):
        file.add(name, ["draw"], Limits())


def test_what_is_unknown_or_taken_is_refused(file: KeyFile) -> None:
    file.add("ann", ["draw"], Limits())
    with pytest.raises(ConfigError, match="'ann' exists"):
        file.add("ann", ["draw"], Limits())
    with pytest.raises(ConfigError, match="did you mean 'draw'"):
        file.add("bob", ["drow"], Limits())
    with pytest.raises(ConfigError, match="did you mean 'ann'"):
        file.revoke("anna")


def test_keys_added_at_the_same_time_are_all_there(file: KeyFile) -> None:
    names = [f"key{number}" for number in range(12)]
    threads = [threading.Thread(target=file.add, args=(name, ["draw"], Limits())) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in file.read()} == set(names)


def test_a_ring_finds_a_key_and_no_other(file: KeyFile) -> None:
    text = file.add("ann", ["draw"], Limits())
    file.add("bob", ["draw"], Limits())
    ring = KeyRing(file)
    found = ring.find(text)
    assert found is not None
    assert found.name == "ann"
    for wrong in ("", text[:-1], text + "x", text.upper(), found.sha256, "é"):
        assert ring.find(wrong) is None


def test_a_ring_follows_its_file(file: KeyFile) -> None:
    ring = KeyRing(file)
    assert not ring.needed
    text = file.add("ann", ["draw"], Limits())
    assert ring.needed
    assert ring.find(text) is not None
    file.revoke("ann")
    assert ring.find(text) is None


def test_keys_stay_needed_when_the_last_is_revoked_or_the_file_vanishes(file: KeyFile) -> None:
    text = file.add("ann", ["draw"], Limits())
    ring = KeyRing(file)
    file.revoke("ann")
    assert ring.needed
    assert KeyRing(file).needed
    file.path.unlink()
    assert ring.needed
    assert ring.find(text) is None


def test_a_file_that_breaks_changes_nothing(
    file: KeyFile, caplog: pytest.LogCaptureFixture
) -> None:
    text = file.add("ann", ["draw"], Limits())
    ring = KeyRing(file)
    file.path.write_text('{"keys": [{"name": "bob"}]}')
    assert ring.find(text) is not None
    assert "stay as they were" in caplog.text


@pytest.mark.parametrize("text", ["{", "[]", '{"keys": [{"name": "bob"}]}', '{"key": []}'])
def test_a_server_does_not_start_with_a_broken_file(file: KeyFile, text: str) -> None:
    file.path.parent.mkdir(parents=True)
    file.path.write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.json"):
        KeyRing(file)


def test_the_operators_key_is_one_of_all_scopes(file: KeyFile) -> None:
    ring = KeyRing(file, "s" * 40)
    found = ring.find("s" * 40)
    assert ring.needed
    assert found is not None
    assert found.name == OPERATOR
    assert found.scopes == {"draw", "admin", "metrics"}
