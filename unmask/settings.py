"""What the operator can choose: UNMASK_* environment variables, and options put over them."""

import os
import re
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from unmask.devices import Precision
from unmask.errors import ConfigError, choices

PREFIX = "UNMASK_"

OnDeath = Literal["restart", "exit", "stay"]
LogLevel = Literal["critical", "error", "warning", "info", "debug"]
SizePolicy = Literal["exact", "scale"]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]


class Settings(BaseSettings):
    """The settings of one process; build them with :func:`load_settings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=8000, ge=0, le=65535, description="port to listen on; 0 = any free one"
    )
    model: str | None = Field(
        default=None, description="bundled name or folder; unset = the default model"
    )
    more_models: list[str] = Field(
        default=[], description="served beside it, loaded when asked for"
    )
    device: str = Field(default="cpu", min_length=1, description="torch device")
    precision: Precision = Field(default="fp32", description="of the backbone: fp32, bf16 or fp16")
    more_devices: list[str] = Field(default=[], description="a worker on each of them too")
    threads: int = Field(default=0, ge=0, description="torch threads; 0 = torch's own choice")
    max_queue: int = Field(default=64, ge=1, description="requests that may wait for a worker")
    max_wait_seconds: float = Field(
        default=120, gt=0, description="refuse if what waits takes longer"
    )
    max_rows: int = Field(
        default=16, ge=1, le=1024, description="images that a worker steps at a time"
    )
    memory_bytes: int = Field(default=0, ge=0, description="of all weights together; 0 = no bound")
    pad: bool | None = Field(
        default=None, description="batches to powers of two; unset = not on a CPU"
    )
    on_death: OnDeath = Field(
        default="restart", description="of a worker: restart it, exit, or stay"
    )
    max_connections: int = Field(
        default=512, ge=1, description="at a time; beyond them one that asks for nothing makes room"
    )
    read_timeout_seconds: float = Field(
        default=10, gt=0, description="longest wait for a request, and between parts of its body"
    )
    trusted_proxies: list[str] = Field(
        default=[], description="addresses whose X-Forwarded-For is believed"
    )
    unix_socket: str | None = Field(
        default=None, min_length=1, description="file to listen on, in place of host and port"
    )
    root_path: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        description="what a proxy puts before every path, such as /unmask",
    )
    cors_origins: list[Origin] = Field(
        default=[], description='web pages that may call, such as https://example.org; "*" = all'
    )
    size_policy: SizePolicy = Field(
        default="exact", description="for a size that is not drawn: refuse it, or scale to it"
    )
    max_body_bytes: int = Field(
        default=1 << 20, ge=1, description="largest request body that is no form"
    )
    max_upload_bytes: int = Field(
        default=20 << 20, ge=1, description="largest form, its files included"
    )
    request_timeout_seconds: float = Field(
        default=300, gt=0, description="longest wait for one request"
    )
    shutdown_timeout_seconds: int = Field(
        default=30, ge=0, description="grace for running requests"
    )
    shutdown_delay_seconds: float = Field(
        default=0,
        ge=0,
        description="of that, how long a server that is unready takes requests still",
    )
    log_level: LogLevel = "info"


def load_settings(**options: object) -> Settings:
    """The settings from the environment, with every option that is not None put over them.

    Raises ConfigError for a variable that is no setting and a value that cannot be one; the
    message names the variable.
    """
    given = {name: value for name, value in options.items() if value is not None}
    _check_variables()
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the types
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        source = f"option {name}" if name in given else f"{PREFIX}{name.upper()}"
        raise ConfigError(f"{source}: {first['msg']}") from None
    except SettingsError as error:  # a list that is no JSON; pydantic tells its field in words only
        field = re.search(r'field "(\w+)"', str(error))
        variable = f"{PREFIX}{field[1].upper()}" if field else str(error)
        raise ConfigError(f'{variable}: give a JSON list, such as ["first", "second"]') from None


def _check_variables() -> None:
    """ConfigError for a variable with our prefix that nobody would read."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            raise ConfigError(
                f"{variable}: there is no such setting; {choices(variable.upper(), known)}"
            )
