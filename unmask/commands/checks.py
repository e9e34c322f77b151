"""What ``unmask doctor`` looks at. A check is a function of the settings that tells what is there,
and raises an UnmaskError that tells what is wrong; an entry of ``CHECKS`` names it."""

import asyncio
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from unmask import __version__
from unmask.commands.keys import key_source, reaching
from unmask.commands.machine import instructions, memory_bytes
from unmask.commands.start import check_devices, check_models, check_socket
from unmask.cores import allowed_cores, cpu_quota, threads_for
from unmask.errors import ConfigError, UnavailableError
from unmask.server.http.doorstep import listening
from unmask.settings import Settings

Check = Callable[[Settings], str]


def sized(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _versions(_: Settings) -> str:
    import fastapi
    import torch

    libraries = f"torch {torch.__version__}, fastapi {fastapi.__version__}"
    return f"unmask {__version__}, Python {platform.python_version()}, {libraries}"


def _devices(settings: Settings) -> str:
    import torch

    check_devices(settings)
    told = []
    for name in (settings.device, *settings.more_devices):
        if torch.device(name).type == "cuda":
            found = torch.cuda.get_device_properties(name)
            told.append(f"{name} ({found.name}, {sized(found.total_memory)})")
        else:
            told.append(name)
    return ", ".join(told)


def _threads(settings: Settings) -> str:
    threads = threads_for(settings.cpu_workers, settings.threads)
    busy = threads.count * max(1, settings.cpu_workers)
    cores = min(allowed_cores(), cpu_quota())
    if busy > math.ceil(cores):
        raise ConfigError(
            f"{busy} threads of all workers share {cores:g} cores, which slows all of them: "
            "leave UNMASK_THREADS at 0"
        )
    return f"{threads.count} a worker: {threads.reason}"


def _processor(_: Settings) -> str:
    return ", ".join(instructions()) or f"{platform.machine()}: none that torch tells of"


def _memory(settings: Settings) -> str:
    found = memory_bytes()
    if found is None:
        return "this system does not tell"
    total, free = found
    if settings.memory_bytes > total:
        raise ConfigError(
            f"UNMASK_MEMORY_BYTES is {sized(settings.memory_bytes)}, but the process may have "
            f"{sized(total)} in all"
        )
    needed = sum(_bytes_in(folder) for _, folder in _local_models(settings))
    if needed > free:
        raise UnavailableError(
            f"the models have {sized(needed)} of weights, and {sized(free)} of memory are free"
        )
    return f"{sized(free)} of {sized(total)} are free"


def _models(settings: Settings) -> str:
    check_models(settings)
    local = {name: sized(_bytes_in(folder)) for name, folder in _local_models(settings)}
    return ", ".join(f"{name} ({local.get(name, 'of a hub')})" for name in _named(settings))


def _address(settings: Settings) -> str:
    if settings.unix_socket is not None:
        check_socket(settings.unix_socket)
        return f"{settings.unix_socket} is free"
    for listener in asyncio.run(listening(settings.host, settings.port)):
        listener.close()
    return f"{settings.host}, port {settings.port} is free"


def _keys(settings: Settings) -> str:
    from unmask.server.http.shared import make_ring

    with key_source(settings) as source:
        names = [key.name for key in make_ring(settings, source).keys]
    return ", ".join(names) or "none, and none is needed"


def _moderation(settings: Settings) -> str:
    from unmask.server.moderation import read_moderation

    if settings.moderation is None:
        return "none"
    read_moderation(settings.moderation)
    return settings.moderation


def _state(settings: Settings) -> str:
    folder = settings.state_folder
    _check_writable(folder, "UNMASK_STATE_DIR")
    free, kept = shutil.disk_usage(_existing(folder)).free, _bytes_in(folder)
    if free + kept < settings.store_bytes:
        raise ConfigError(
            f"{folder}: jobs may take {sized(settings.store_bytes)} (UNMASK_STORE_BYTES), and the "
            f"disk has room for {sized(free + kept)}"
        )
    return f"{folder} holds {sized(kept)}, {sized(free)} are free"


def _database(settings: Settings) -> str:
    from unmask.server.state.database import FILE_NAME, VARIABLE, open_folder, open_url

    if settings.database is not None:
        with reaching(VARIABLE):
            open_url(settings.database.get_secret_value()).dispose()
        return f"{VARIABLE} can be reached"
    path = settings.state_folder / FILE_NAME
    if not path.exists():
        return f"{path} will be made by the first job"
    open_folder(settings.state_folder).dispose()
    return str(path)


def _files(settings: Settings) -> str:
    from unmask.server.jobs.remote_files import VARIABLE, open_files

    if settings.store is None:
        return "in the state folder"
    with reaching(VARIABLE):
        open_files(settings).check()
    return settings.store


def _temporary(settings: Settings) -> str:
    """Large uploads go there."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise ConfigError(
            "there is no folder for temporary files that can be written to: name one with TMPDIR"
        ) from None
    free = shutil.disk_usage(folder).free
    if free < settings.max_upload_bytes:
        raise ConfigError(
            f"{folder}: an upload may have {sized(settings.max_upload_bytes)} "
            f"(UNMASK_MAX_UPLOAD_BYTES), and the disk has room for {sized(free)}"
        )
    return f"{folder}, {sized(free)} are free"


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "versions": _versions,
        "devices": _devices,
        "processor": _processor,
        "threads": _threads,
        "memory": _memory,
        "models": _models,
        "address": _address,
        "keys": _keys,
        "moderation": _moderation,
        "state": _state,
        "database": _database,
        "files of jobs": _files,
        "temporary files": _temporary,
    }
)


def _named(settings: Settings) -> tuple[str, ...]:
    from unmask.store import served_models

    return served_models(settings.model, settings.more_models, settings.adapters)


def _local_models(settings: Settings) -> list[tuple[str, Path]]:
    """The models that are on this machine, with their folders."""
    from unmask.store import hub_id, local_model, parted

    return [
        (name, local_model(name)[0]) for name in _named(settings) if hub_id(parted(name)[0]) is None
    ]


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _check_writable(folder: Path, variable: str) -> None:
    place = _existing(folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{folder}: nothing can be written there by user {os.geteuid()}; "
            f"name another folder with {variable}"
        )
