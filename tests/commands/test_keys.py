"""unmask keys, and what unmask serve says without any."""

import pytest
from typer.testing import CliRunner

from unmask.commands import commands
from unmask.errors import ConfigError
from unmask.server.keys.store import KeyFile, digest
from unmask.settings import load_settings


def run(*arguments: str) -> str:
    result = CliRunner().invoke(commands, ["keys", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_key_is_shown_once_and_found_by_its_hash() -> None:
    text = run("add", "ann").strip()
    [key] = KeyFile(load_settings().state_folder).read()
    assert (key.name, key.sha256, key.scopes) == ("ann", digest(text), frozenset({"draw"}))
    assert text not in run("list")


def test_the_list_tells_names_scopes_and_limits() -> None:
    assert run("list") == ""
    run("add", "ann", "--scope", "draw,metrics", "--limit", "jobs_at_once=2")
    run("add", "bob", "--limit", "tokens_per_day=0", "--limit", "requests_per_minute=9")
    ann, bob = run("list").splitlines()
    assert ann.split()[:2] == ["ann", "draw,metrics"]
    assert ann.endswith("jobs_at_once=2")
    assert bob.endswith("requests_per_minute=9 tokens_per_day=0")


def test_a_revoked_key_is_gone() -> None:
    run("add", "ann")
    run("revoke", "ann")
    assert run("list") == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "ann", "--scope", "drow"], "did you mean 'draw'"),
        (["add", "ann", "--limit", "job_at_once=2"], "did you mean 'jobs_at_once'"),
        (["add", "ann", "--limit", "jobs_at_once"], "jobs_at_once=NUMBER"),
        (["add", "ann", "--limit", "jobs_at_once=-1"], "jobs_at_once=NUMBER"),
        (["revoke", "ann"], "there are no keys"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run(*arguments)


def test_serving_beyond_this_machine_without_keys_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"unmask keys add NAME.*--insecure"):
        CliRunner().invoke(
            commands, ["serve", "--host", "0.0.0.0", "--port", "0"], catch_exceptions=False
        )
