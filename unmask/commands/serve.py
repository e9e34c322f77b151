"""The command that serves: what cannot be is found before the server starts, and it ends alone."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from unmask.commands.root import MODEL_HELP, commands
from unmask.errors import ConfigError, UnavailableError, UnmaskError

if TYPE_CHECKING:
    from unmask.settings import Settings

INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it


@commands.command()
def serve(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP} [UNMASK_MODEL]")] = None,
    device: Annotated[str | None, typer.Option(help="torch device [UNMASK_DEVICE]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16 [UNMASK_PRECISION]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="[UNMASK_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="[UNMASK_PORT]")] = None,
    threads: Annotated[int | None, typer.Option(help="torch threads [UNMASK_THREADS]")] = None,
    max_queue: Annotated[int | None, typer.Option(help="[UNMASK_MAX_QUEUE]")] = None,
    log_level: Annotated[str | None, typer.Option(help="[UNMASK_LOG_LEVEL]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings [UNMASK_CONFIG]")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve whoever asks [UNMASK_INSECURE]")
    ] = False,
) -> None:
    """Serve a model over HTTP; /docs shows the API.

    An option left out is read from the environment variable in brackets, as are further settings;
    what is in neither, from the TOML file. unmask settings lists them all.
    """
    from unmask.settings import load_settings

    settings = load_settings(
        model=model,
        device=device,
        precision=precision,
        host=host,
        port=port,
        threads=threads,
        max_queue=max_queue,
        log_level=log_level,
        config=config,
        insecure=insecure or None,
    )
    if settings.unix_socket is None:
        asyncio.run(check_address(settings.host, settings.port))
    else:
        check_socket(settings.unix_socket)
    check_models(settings)
    check_devices(settings)
    from unmask.server.http.server import serve as serve_until_signal

    try:
        number = serve_until_signal(settings)
    except SystemExit:  # it has said why: a port that was taken since it was tried, and the like
        number = None
    if number == signal.SIGINT:
        print("unmask: interrupted", file=sys.stderr)
        _end_process(INTERRUPTED)
    _end_process(1 if number is None else 0)


async def check_address(host: str, port: int) -> None:
    """UnavailableError unless the server could listen there: found before a model is loaded."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    except OSError as error:
        # Of a failed bind asyncio's own words repeat the address; the system's do not.
        number = error.errno or 0  # that of an unknown host is below 0, and no error of the system
        reason = os.strerror(number) if number > 0 else error.strerror
        raise UnavailableError(
            f"cannot listen on {host}, port {port}: {reason}; choose others with --host and --port"
        ) from None
    server.close()
    await server.wait_closed()


def check_socket(path: str) -> None:
    """UnavailableError if another server listens at the path, or no file can be put there. What a
    server left behind that was killed is no hindrance."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
            reason = "another server listens there"
        except (FileNotFoundError, ConnectionRefusedError):
            if os.access(Path(path).absolute().parent, os.W_OK):
                return
            reason = "there is no such folder, or nothing may be written into it"
        except OSError as error:
            reason = error.strerror or str(error)
    raise UnavailableError(
        f"cannot listen on {path}: {reason}; choose another with UNMASK_UNIX_SOCKET"
    )


def check_models(settings: "Settings") -> None:
    """ConfigError for a model that cannot be: without this check the server would come up and never
    be ready. What a hub holds is only known when it is fetched."""
    from unmask.box import available_models
    from unmask.pipeline import read_card
    from unmask.store import HUB_ID, default_model, is_folder

    def check(name: str) -> None:
        known = name in available_models() or is_folder(name)
        if known or HUB_ID.fullmatch(name) is None:
            read_card(name)

    _check_each("UNMASK_MODEL", [settings.model or default_model()], check)
    _check_each("UNMASK_MORE_MODELS", settings.more_models, check)


def check_devices(settings: "Settings") -> None:
    """ConfigError for a device that torch cannot use here."""
    from unmask.devices import usable_device

    _check_each("UNMASK_DEVICE", [settings.device], usable_device)
    _check_each("UNMASK_MORE_DEVICES", settings.more_devices, usable_device)


def _check_each(variable: str, values: Iterable[str], check: Callable[[str], object]) -> None:
    """Call ``check`` with each; what is wrong with it is told as an error of the variable."""
    for value in values:
        try:
            check(value)
        except UnmaskError as error:
            raise ConfigError(f"{variable}: {error}") from error


def _end_process(code: int) -> NoReturn:
    """End now. A thread may still be loading a model: the interpreter, on its way out, would end it
    in the midst of torch's C++, which aborts the process (SIGABRT)."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
