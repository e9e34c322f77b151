"""What the operator can choose: a TOML file, UNMASK_* variables over it, and options over both."""

import os
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from unmask.devices import Precision
from unmask.errors import ConfigError, choices, shown

OnDeath = Literal["restart", "exit", "stay"]
LogLevel = Literal["critical", "error", "warning", "info", "debug"]
LogFormat = Literal["text", "json"]
SizePolicy = Literal["exact", "scale"]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]

PREFIX = "UNMASK_"
SECRETS = ("api_key", "database")
LEAST_SECRET = 32  # characters; a key is hashed fast, so it must be too long to be guessed


def _is_proxy(text: str) -> str:
    """The text if it is `*`, an address or a network; uvicorn would take anything, and trust it."""
    if text != "*":
        ip_network(text)  # a ValueError tells what is wrong
    return text


class Settings(BaseSettings):
    """The settings of one process; build them with :func:`load_settings`.

    The descriptions are the table of docs/deployment.md: ``unmask settings --markdown`` prints it.
    """

    # A time without end, or a NaN, would pass a bound and fail where it is waited for.
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, allow_inf_nan=False)

    config: Path | None = Field(
        default=None,
        description="a TOML file of settings, by their names in small letters without `UNMASK_`",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="the address to listen on; beyond this machine the server needs keys",
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="the port to listen on; 0 = any that is free"
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="the default model: a bundled name, a folder, or OWNER/NAME of a hub; "
        "unset = `storybook`, and `storybook-clips` beside it",
    )
    more_models: list[str] = Field(
        default=[],
        description="a JSON list of other models to serve, each loaded when it is first asked for",
    )
    adapters: list[str] = Field(
        default=[],
        description="a JSON list of low-rank adapters of the default model (LoRA: a file, or with "
        "`@0.5` behind it half as strong); each is served as a model of its own, "
        "`MODEL+NAME` by the name of its file",
    )
    device: str = Field(default="cpu", min_length=1, description="a torch device, such as `cuda`")
    precision: Precision = Field(
        default="fp32",
        description="the precision of the backbone: `fp32`, `bf16`, `fp16`, or `int8` on a CPU",
    )
    more_devices: list[str] = Field(
        default=[],
        description="a JSON list of other devices; each gets a worker, and weights of its own",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="torch threads of a worker; 0 = the cores "
        "that affinity and cgroup let this process use, shared by its workers",
    )
    max_queue: int = Field(default=64, ge=1, description="how many requests may wait")
    max_wait_seconds: float = Field(
        default=120,
        gt=0,
        description="a request is refused if those that wait and are taken before it would take "
        "longer, reckoned by the speed measured so far",
    )
    max_rows: int = Field(
        default=16, ge=1, le=1024, description="how many images a worker moves on in one step"
    )
    memory_bytes: int = Field(
        default=0,
        ge=0,
        description="a bound for the weights of all models together; 0 = none. A model that nobody "
        "uses makes room for one that is asked for",
    )
    pad: bool | None = Field(
        default=None,
        description="fill batches up to powers of two, so that shapes repeat. Unset: on every "
        "device but a CPU, where it only costs time",
    )
    on_death: OnDeath = Field(
        default="restart",
        description="what happens when a worker dies: `restart` it, `exit` the process, or `stay` "
        "without it",
    )
    max_connections: int = Field(
        default=512,
        ge=1,
        description="how many connections there may be; beyond them one that asks for nothing "
        "makes room",
    )
    read_timeout_seconds: float = Field(
        default=10,
        gt=0,
        description="the longest wait for a request's head, and for each part of its body",
    )
    trusted_proxies: list[Annotated[str, AfterValidator(_is_proxy)]] = Field(
        default=[],
        description="a JSON list of the addresses whose `X-Forwarded-For` is believed",
    )
    unix_socket: str | None = Field(
        default=None,
        min_length=1,
        description="a file to listen on, in place of host and port. Its clients have no address: "
        "behind a proxy set `UNMASK_TRUSTED_PROXIES='[\"*\"]'`, or all of them share one turn",
    )
    root_path: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        description="what a proxy puts before every path, such as `/unmask`, whether it takes it "
        "away again or not",
    )
    cors_origins: list[Origin] = Field(
        default=[],
        description="a JSON list of the origins whose web pages may call, such as "
        '`https://example.org`; `"*"` = all. Credentials (cookies) are never allowed',
    )
    size_policy: SizePolicy = Field(
        default="exact",
        description="for a size that is not drawn: `exact` refuses it, `scale` scales to it "
        "([api.md](api.md#sizes))",
    )
    max_body_bytes: int = Field(
        default=1 << 20, ge=1, description="the largest body that holds no picture"
    )
    max_upload_bytes: int = Field(
        default=20 << 20,
        ge=1,
        description="the largest body with pictures; of a form, what is above 1 MiB is read into a "
        "temporary file",
    )
    request_timeout_seconds: float = Field(
        default=300,
        gt=0,
        description="the longest time that one request may take, its wait included",
    )
    shutdown_timeout_seconds: int = Field(
        default=30,
        ge=0,
        description="how long running requests may go on when the server is told to stop",
    )
    shutdown_delay_seconds: float = Field(
        default=0,
        ge=0,
        description="how long, of that, a server that is unready already still takes requests: as "
        "long as your load balancer needs to notice",
    )
    log_level: LogLevel = Field(
        default="info",
        description="`critical`, `error`, `warning`, `info` or `debug`; prompts are never logged",
    )
    log_format: LogFormat = Field(
        default="text", description="`text` for people, or `json`: an object a line"
    )
    state_dir: Path | None = Field(
        default=None,
        description="the folder of what outlives the process: keys and jobs; unset = "
        "`$XDG_STATE_HOME/unmask`, or `~/.local/state/unmask`",
    )
    database: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="where jobs, keys and limits are, for several servers that share them: "
        "`postgresql://USER:PASSWORD@HOST/NAME`; unset = a file in the state folder",
    )
    store: str | None = Field(
        default=None,
        min_length=1,
        description="where the files of jobs are: a folder, which several servers may share, or "
        "`s3://BUCKET/PREFIX`; unset = `files` in the state folder",
    )
    api_key: SecretStr | None = Field(
        default=None,
        min_length=LEAST_SECRET,
        description=f"a key of all scopes, named `operator`, of at least {LEAST_SECRET} random "
        "characters, beside those of `unmask keys`",
    )
    insecure: bool = Field(
        default=False,
        description="serve beyond this machine though there are no keys: to whoever asks",
    )
    requests_per_minute: int = Field(
        default=0,
        ge=0,
        description="how many drawings a sender may ask for in a minute; 0 = no bound. This and "
        "the others of the kind hold for every key that has no such limit of its own",
    )
    requests_per_day: int = Field(default=0, ge=0, description="and in a day; 0 = no bound")
    tokens_per_minute: int = Field(
        default=0,
        ge=0,
        description="how many picture tokens a sender may have drawn in a minute; 0 = no bound",
    )
    tokens_per_day: int = Field(default=0, ge=0, description="and in a day; 0 = no bound")
    limits: Literal["memory", "database"] | None = Field(
        default=None,
        description="where limits are counted: in the `memory` of each process, or in the "
        "`database`, together for all who share it; unset = where `UNMASK_DATABASE` is set, there",
    )
    jobs_at_once: int = Field(
        default=32,
        ge=0,
        description="how many drawings a sender may have asked for at a time; 0 = no bound",
    )
    moderation: str | None = Field(
        default=None,
        description="a file of words and patterns that no prompt may hold; `standard` = the list "
        "in the box; unset = none",
    )

    running_jobs: int = Field(
        default=4, ge=1, description="how many stored jobs are drawn at a time"
    )
    job_lifetime_seconds: float = Field(
        default=86400,
        gt=0,
        description="how long a job is kept after its end, and the URLs of its result are good",
    )
    store_bytes: int = Field(
        default=1 << 30,
        ge=1 << 20,
        description="what jobs and their files may take of the disk. Half of it is for those that "
        "are not done; of the others the oldest are removed when there is no room",
    )
    webhooks: bool = Field(
        default=False,
        description="let senders name a URL that is called when a job of theirs has ended",
    )

    @property
    def cpu_workers(self) -> int:
        """How many workers compute on the CPU."""
        return [self.device, *self.more_devices].count("cpu")

    @property
    def limits_are_shared(self) -> bool:
        """Whether limits are counted in the database."""
        chosen = self.limits or ("memory" if self.database is None else "database")
        return chosen == "database"

    @property
    def state_folder(self) -> Path:
        """Where what outlives the process is kept; it need not exist yet."""
        if self.state_dir is not None:
            return self.state_dir
        state_home = os.environ.get("XDG_STATE_HOME")
        return (Path(state_home) if state_home else Path.home() / ".local" / "state") / "unmask"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then variables, then files that variables name, then the TOML file."""
        given = init_settings()
        path = given.get("config") or env_settings().get("config")
        return (
            init_settings,
            env_settings,
            VariablesInFiles(settings_cls),
            TomlConfigSettingsSource(
                settings_cls, toml_file=_readable(path, _source("config", given))
            ),
        )


class VariablesInFiles(EnvSettingsSource):
    """``UNMASK_X_FILE`` names a file that holds what ``UNMASK_X`` would: so a container gets its
    secrets, for an environment is shown by too many tools."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {}
        for name in settings_cls.model_fields:
            variable = PREFIX + name.upper()
            path = os.environ.get(f"{variable}_FILE")
            if path is None:
                continue
            if variable in os.environ:
                raise ConfigError(f"{variable} and {variable}_FILE are set: set one")
            try:
                self.env_vars[variable.lower()] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{variable}_FILE: {path} cannot be read: {error}") from None


def load_settings(**options: object) -> Settings:
    """The settings, with every option that is not None put over all other sources.

    Raises ConfigError for a variable that is no setting and a value that cannot be one; the
    message names the option, the variable or the file that it is from.
    """
    given = {name: value for name, value in options.items() if value is not None}
    _check_variables()
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the types
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = choices(name, Settings.model_fields)
            raise ConfigError(f"{_source(name, given)} is no setting: {known}") from None
        # A secret is not told, be it too short or on the wrong line.
        value = "" if name in SECRETS else f" {shown(first['input'])}"
        raise ConfigError(f"{_source(name, given)}{value}: {first['msg']}") from None
    except SettingsError as error:  # a list that is no JSON; pydantic tells its field in words only
        field = re.search(r'field "(\w+)"', str(error))
        variable = f"{PREFIX}{field[1].upper()}" if field else str(error)
        raise ConfigError(f'{variable}: give a JSON list, such as ["first", "second"]') from None


def _check_variables() -> None:
    """ConfigError for a variable with our prefix that nobody would read."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    files = [f"{variable}_FILE" for variable in known]
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(PREFIX) and name not in known and variable not in files:
            raise ConfigError(f"{variable}: there is no such setting; {choices(name, known)}")


def markdown_table() -> str:
    """All settings as docs/deployment.md has them, a line each."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {shown_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def shown_default(field: FieldInfo) -> str:
    """A default as it is told."""
    if field.default is None:
        return "unset"
    return f"`{field.default}`" if isinstance(field.default, list) else str(field.default)


def _source(name: str, options: dict[str, object]) -> str:
    """Where a setting has its value from."""
    variable = PREFIX + name.upper()
    if name in options:
        return "MODEL" if name == "model" else f"--{name.replace('_', '-')}"
    for known in (variable, f"{variable}_FILE"):
        if known in os.environ:
            return known
    return f"{options.get('config') or os.environ.get(f'{PREFIX}CONFIG')}: {name}"


def _readable(path: str | Path | None, source: str) -> Path | None:
    """The path, once it is known to hold TOML: pydantic takes a missing file for an empty one."""
    if path is None:
        return None
    try:
        tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} {path}: it cannot be read as TOML: {error}") from None
    return Path(path)
