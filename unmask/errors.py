"""Every error that a user of Unmask can cause, grouped by what the caller can do about it.

UnmaskError
├── RequestError           change the request: a value is out of its bounds (HTTP 400)
│   ├── NotFoundError      name something that exists: model, route (HTTP 404)
│   ├── PromptTooLongError shorten the prompt: nothing is cut off in silence (HTTP 400)
│   ├── UnknownWordsError  choose words that the model was taught, or be less strict (HTTP 400)
│   ├── ModerationError    ask for something else: the server's moderation refuses this (HTTP 400)
│   ├── MissingExtraError  install the extra that it names, or choose what goes without (HTTP 400)
│   └── ReusedKeyError     take a new Idempotency-Key for another request (HTTP 422)
├── LimitError             try again in the seconds that it tells, or ask for less (HTTP 429)
├── ConfigError            mend a configuration file or a checkpoint folder
├── DataError              mend the training data
├── DrawingError           look at the model: it gave no numbers, or ran out of memory (HTTP 500)
├── DeviceError            replace the worker or the process: its device has failed (HTTP 503)
└── UnavailableError       try again later: the server is starting, stopping or broken (HTTP 503)
    └── QueueFullError     try again in the seconds that it tells (HTTP 429)
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
MAX_SHOWN = 80  # characters of a bad value


class UnmaskError(Exception):
    """The base of all errors that Unmask raises on purpose."""


class RequestError(UnmaskError):
    """A request holds a value that cannot be served; ``param`` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFoundError(RequestError):
    """A request names something that does not exist."""


class PromptTooLongError(RequestError):
    """A prompt holds more than the model reads; nothing is cut off in silence."""


class UnknownWordsError(RequestError):
    """A prompt that must not hold words which the model was not taught holds some."""


class ModerationError(RequestError):
    """The server's moderation refuses a prompt or a picture."""


class MissingExtraError(RequestError):
    """A request needs a package that was not installed; the message names the extra."""


class ReusedKeyError(RequestError):
    """A sender gave the key of an earlier request to another one."""


class LimitError(UnmaskError):
    """A sender has used what it may; ``retry_after`` says in how many seconds it may again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}: try again in {retry_after} s")
        self.retry_after = retry_after


class ConfigError(UnmaskError):
    """A configuration or a checkpoint cannot be used; the message names the file or field."""


class DataError(UnmaskError):
    """Training data is missing or malformed; the message names the file and line."""


class DrawingError(UnmaskError):
    """A picture could not be drawn, and would not be if asked again."""


class DeviceError(UnmaskError):
    """A device has failed: whatever it is asked next will fail too, whoever asks."""


class UnavailableError(UnmaskError):
    """The service cannot take this request now."""


class QueueFullError(UnavailableError):
    """As much waits as may wait; ``retry_after`` says in how many seconds there may be room."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"{message}: try again in {retry_after} s")
        self.retry_after = retry_after


def shown(value: object) -> str:
    """A bad value as a message tells it: what Python writes for it, and no more of it than a line
    has room for."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an int of 5,000 digits has none, nor need anybody's own class
        text = f"one of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def choices(name: str, known: Iterable[str]) -> str:
    """A sentence that lists the known names, the nearest to ``name`` first said."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}choose one of: {', '.join(names)}"


def look_up(param: str, known: Mapping[str, T], name: str) -> T:
    """``known[name]``; RequestError for ``param``, with the choices, if there is none."""
    if name not in known:
        raise RequestError(f"{param} {name[:80]!r}: {choices(name[:80], known)}", param)
    return known[name]
