"""Senders: who a request is from."""

import ipaddress
from dataclasses import dataclass
from typing import Literal, get_args

from unmask.server.keys.limits import Limits

Scope = Literal["draw", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Sender:
    """Who asks. ``name`` is that of a verified key, or the address where no key is needed: it is
    what owns jobs and has a share of the engine. ``key`` is the name of the key alone."""

    name: str
    key: str
    scopes: frozenset[Scope]
    address: str
    limits: Limits

    def may(self, scope: Scope) -> bool:
        """Whether the sender may do what needs a scope; an admin may do anything."""
        return scope in self.scopes or "admin" in self.scopes


def address_name(host: str) -> str:
    """The name of a sender without a key: the address, for no header proves anything. Of IPv6 it is
    the network, in which a sender may have any address it likes."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False))


def is_beyond(host: str, *, if_named: bool) -> bool:
    """Whether more than this machine reaches an address that is listened on; of a name nothing is
    known but of ``localhost``."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return if_named and host != "localhost"
