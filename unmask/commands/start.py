"""What must be so before a server starts: found at once, and told as an error of its setting."""

import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.errors import ConfigError, UnavailableError, UnmaskError

if TYPE_CHECKING:
    from unmask.settings import Settings


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
    from unmask.models.adapter import Adapter
    from unmask.pipeline import read_card
    from unmask.store import default_model, hub_id, parted

    def check(name: str) -> None:
        if hub_id(parted(name)[0]) is None:
            read_card(name)

    _check_each("UNMASK_MODEL", [settings.model or default_model()], check)
    _check_each("UNMASK_MORE_MODELS", settings.more_models, check)
    _check_each("UNMASK_ADAPTERS", settings.adapters, lambda text: Adapter.parse(text).words)


def check_devices(settings: "Settings") -> None:
    """ConfigError for a device that torch cannot use here, or not with the precision."""
    from unmask.devices import check_precision, usable_device

    _check_each("UNMASK_DEVICE", [settings.device], usable_device)
    _check_each("UNMASK_MORE_DEVICES", settings.more_devices, usable_device)
    devices = (settings.device, *settings.more_devices)
    _check_each(
        "UNMASK_PRECISION", devices, lambda device: check_precision(settings.precision, device)
    )


def _check_each(variable: str, values: Iterable[str], check: Callable[[str], object]) -> None:
    """Call ``check`` with each; what is wrong with it is told as an error of the variable."""
    for value in values:
        try:
            check(value)
        except UnmaskError as error:
            raise ConfigError(f"{variable}: {error}") from error
