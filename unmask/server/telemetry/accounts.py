"""What is known of one request when it has been answered: the log and the metrics read it."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(eq=False)
class Account:
    """Written by whoever finds out; empty where nobody did. A request may have several drawings
    made: their images and tokens are counted together, and the seconds are of the one that ended
    last."""

    key: str = ""  # the name of the key that was verified
    route: str = ""  # its path as the document has it
    code: str = ""  # of the error that it was answered with
    model: str = ""
    images: int = 0
    tokens: int = 0
    queue_seconds: float = 0.0
    draw_seconds: float = 0.0
    drawn_at: float = 0.0  # when its images were there
    began: float = field(default_factory=time.perf_counter)


# Of the request that is being served: a context, for an engine and an error know no request.
_current: ContextVar[Account | None] = ContextVar("account", default=None)


def open_account() -> Account:
    """A new account, for all that happens in this task and those that it starts."""
    account = Account()
    _current.set(account)
    return account


def account() -> Account:
    """That of the request; outside of all requests one that nobody reads."""
    return _current.get() or Account()
