from ipaddress import ip_address

import pytest

from unmask.errors import ConfigError
from unmask.settings import load_settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_PORT", "9000")
    assert load_settings().port == 9000


def test_options_stand_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_PORT", "9000")
    assert load_settings(port=9001, host=None).port == 9001


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_MAX_QUEUE", "0")
    with pytest.raises(ConfigError, match="UNMASK_MAX_QUEUE"):
        load_settings()


def test_a_bad_option_is_named() -> None:
    with pytest.raises(ConfigError, match="option port"):
        load_settings(port=70000)


def test_the_server_listens_to_this_machine_alone_unless_told() -> None:
    assert ip_address(load_settings().host).is_loopback


def test_forms_may_be_larger_than_other_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert settings.max_upload_bytes > settings.max_body_bytes
    monkeypatch.setenv("UNMASK_MAX_UPLOAD_BYTES", "0")
    with pytest.raises(ConfigError, match="UNMASK_MAX_UPLOAD_BYTES"):
        load_settings()
