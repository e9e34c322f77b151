from ipaddress import ip_address
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from unmask.errors import ConfigError
from unmask.settings import Settings, load_settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_PORT", "9000")
    assert load_settings().port == 9000


def test_options_stand_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_PORT", "9000")
    assert load_settings(port=9001, host=None).port == 9001


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_MAX_QUEUE", "0")
    with pytest.raises(ConfigError, match=r"UNMASK_MAX_QUEUE '0': .*greater than or equal to 1"):
        load_settings()


# Of a field's type, what cannot be one; a text may be anything but empty.
IMPOSSIBLE = {int: ["x", "1e30", "-1"], float: ["x", "nan", "inf", "-1"], bool: ["maybe"]}
FREE = {"config", "state_dir", "moderation"}  # paths are looked at where they are opened


def _impossible(field: FieldInfo) -> list[str]:
    kinds = get_args(field.annotation) or (field.annotation,)
    if get_origin(field.annotation) is list:
        return ["x", "[3]", "{}"]
    return [value for kind in kinds for value in IMPOSSIBLE.get(kind, [""])]


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - FREE))
def test_every_setting_refuses_what_it_cannot_be_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"UNMASK_{name.upper()}"
    for value in _impossible(Settings.model_fields[name]):
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigError, match=f"^{variable}.*: .") as refusal:
            load_settings()
        assert "\n" not in str(refusal.value)


def test_a_proxy_is_an_address_or_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_TRUSTED_PROXIES", '["10.0.0.0/8", "::1", "*"]')
    assert load_settings().trusted_proxies == ["10.0.0.0/8", "::1", "*"]
    for wrong in ("proxy", "10.0.0.1/8"):
        monkeypatch.setenv("UNMASK_TRUSTED_PROXIES", f'["{wrong}"]')
        with pytest.raises(ConfigError, match=f"UNMASK_TRUSTED_PROXIES '{wrong}'"):
            load_settings()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("port", 70000, "--port 70000: .* 65535"),
        ("log_level", "loud", "--log-level 'loud': .*'critical'"),
        ("model", "", "MODEL ''"),
    ],
)
def test_a_bad_option_is_named_as_it_was_given(option: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings(**{option: value})


def test_the_server_listens_to_this_machine_alone_unless_told() -> None:
    assert ip_address(load_settings().host).is_loopback


def test_forms_may_be_larger_than_other_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert settings.max_upload_bytes > settings.max_body_bytes
    monkeypatch.setenv("UNMASK_MAX_UPLOAD_BYTES", "0")
    with pytest.raises(ConfigError, match="UNMASK_MAX_UPLOAD_BYTES '0'"):
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


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    config = tmp_path / "unmask.toml"
    config.write_text('port = 9000\nmax_queue = 7\nmore_models = ["a", "b"]\n')
    return config


def test_a_file_stands_under_the_environment_and_options(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMASK_CONFIG", str(config))
    settings = load_settings()
    assert (settings.port, settings.max_queue, settings.more_models) == (9000, 7, ["a", "b"])
    monkeypatch.setenv("UNMASK_PORT", "9001")
    assert load_settings().port == 9001
    assert load_settings(port=9002).port == 9002
    assert load_settings(port=9002).max_queue == 7


def test_an_option_names_the_file_too(config: Path) -> None:
    assert load_settings(config=config).port == 9000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", r"unmask\.toml: prot is no setting: did you mean 'port'"),
        ("port = -1", r"unmask\.toml: port -1: .*greater than or equal to 0"),
        ("port = ", r"cannot be read as TOML"),
    ],
)
def test_a_file_with_a_fault_is_named(config: Path, text: str, told: str) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_settings(config=config)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such"):
        load_settings(config=tmp_path / "no such")


def test_a_variable_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 40 + "\n")
    monkeypatch.setenv("UNMASK_API_KEY_FILE", str(secret))
    key = load_settings().api_key
    assert key is not None
    assert key.get_secret_value() == "s" * 40
    assert "ssss" not in repr(load_settings())
    monkeypatch.setenv("UNMASK_API_KEY", "t" * 40)
    with pytest.raises(ConfigError, match="UNMASK_API_KEY and UNMASK_API_KEY_FILE are set"):
        load_settings()


def test_a_short_secret_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    monkeypatch.setenv("UNMASK_API_KEY_FILE", str(secret))
    with pytest.raises(ConfigError, match=r"UNMASK_API_KEY_FILE.*at least 32") as refusal:
        load_settings()
    assert "hunter2" not in str(refusal.value)
    monkeypatch.setenv("UNMASK_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings()


def test_the_state_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_STATE_DIR", "/a")
    assert load_settings().state_folder == Path("/a")
    monkeypatch.delenv("UNMASK_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/b")
    assert load_settings().state_folder == Path("/b/unmask")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert load_settings().state_folder == Path("/c/.local/state/unmask")
