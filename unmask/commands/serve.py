"""The command that serves: what cannot be is found before the server starts, and it ends alone."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from unmask.commands.root import MODEL_HELP, commands
from unmask.commands.start import check_devices, check_models, check_socket
from unmask.cores import are_shared

if TYPE_CHECKING:
    from unmask.server.http.doorstep import Doorstep
    from unmask.settings import Settings

INTERRUPTED = 130  # the exit code after Ctrl-C, as shells have it


@commands.command()
def serve(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP} [UNMASK_MODEL]")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="A LoRA of the model, served beside it; may be repeated [UNMASK_ADAPTERS]"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="torch device [UNMASK_DEVICE]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16, fp16 or int8 [UNMASK_PRECISION]")
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
    ray: Annotated[
        bool, typer.Option("--ray", help="A process for each device, as replicas of Ray Serve.")
    ] = False,
) -> None:
    """Serve a model over HTTP; /docs shows the API.

    An option left out is read from the environment variable in brackets, as are further settings;
    what is in neither, from the TOML file. unmask settings lists them all.
    """
    from unmask.settings import load_settings

    settings = load_settings(
        model=model,
        adapters=adapter or None,
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
    with ExitStack() as unless_served:
        doorstep = None
        if settings.unix_socket is None:
            from unmask.server.http.doorstep import Doorstep, listening

            doorstep = Doorstep(asyncio.run(listening(settings.host, settings.port)))
            unless_served.callback(doorstep.close)
        else:
            check_socket(settings.unix_socket)
        number = _served(settings, doorstep, ray)
    if number == signal.SIGINT:
        print("unmask: interrupted", file=sys.stderr)
        _end_process(INTERRUPTED)
    _end_process(1 if number is None else 0)


def _served(settings: "Settings", doorstep: "Doorstep | None", ray: bool) -> int | None:
    """The signal that ended the server; None if it could not start, and has said why."""
    if are_shared(settings.cpu_workers):
        # Before torch brings OpenMP: its threads would spin while they wait, at the cost of others.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    check_models(settings)
    check_devices(settings)
    if ray:
        from unmask.server.replicas.launch import serve_replicas

        if doorstep is not None:
            doorstep.close()  # Ray listens itself
        return serve_replicas(settings)
    from unmask.server.http.server import serve as serve_until_signal

    try:
        return serve_until_signal(settings, doorstep)
    except SystemExit:
        return None


def _end_process(code: int) -> NoReturn:
    """End now. A thread may still be loading a model: the interpreter, on its way out, would end it
    in the midst of torch's C++, which aborts the process (SIGABRT)."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
