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


def test_a_list_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_MORE_MODELS", "foo")
    with pytest.raises(ConfigError, match="UNMASK_MORE_MODELS: give a JSON list"):
        load_settings()


@pytest.mark.parametrize("variable", ["UNMASK_PROT", "unmask_prot"])
def test_a_misspelt_variable_is_told_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "9000")
    with pytest.raises(ConfigError, match=f"{variable}: .* did you mean 'UNMASK_PORT'"):
        load_settings()
