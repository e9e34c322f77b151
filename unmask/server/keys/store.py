"""Keys: the file that holds them, or the table for several servers, and a server's view of either.

A key is 256 random bits, so its SHA-256 is as good as a slow hash: nobody can try them all, however
fast a try is. What protects passwords, which people choose, would only cost time at each request.
"""

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Hashable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmask.errors import ConfigError, choices
from unmask.server.keys.limits import Limits
from unmask.server.keys.senders import SCOPES, Scope

log = logging.getLogger(__name__)

FILE_NAME = "keys.json"
BYTES = 32
# A letter first: so no name of a key is that of a sender without one, which is an address.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
OPERATOR = "operator"


class Key(BaseModel):
    """What is known of a key; not the key itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: frozenset[Scope]
    limits: Limits = Limits()
    created: str = Field(description="date and time in UTC, ISO 8601")


class KeyList(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()


class KeyFile:
    """The file of keys in a state folder. Two processes that change it do so one after another, and
    whoever reads it sees all of a change or nothing of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def read(self) -> tuple[Key, ...]:
        """All keys; none if there is no file. ConfigError if it cannot be read."""
        try:
            return KeyList.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from None
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise ConfigError(f"{self.path}: {place or 'the file'}: {fault['msg']}") from None

    def add(self, name: str, scopes: Sequence[str], limits: Limits) -> str:
        """A new key, which nobody can find out again. ConfigError for a name that cannot be or is
        taken, and for an unknown scope."""
        text, key = new_key(name, scopes, limits)
        with self._changing() as keys:
            check_free(name, [other.name for other in keys])
            keys.append(key)
        return text

    def revoke(self, name: str) -> None:
        """Forget a key; ConfigError if there is none of this name."""
        with self._changing() as keys:
            names = [key.name for key in keys]
            check_known(name, names)
            del keys[names.index(name)]

    def look(self) -> Hashable | None:
        """What is another after each change; None if there is no file. It takes microseconds."""
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """The keys, to be changed in place; they are written at the end."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(self.read())
            yield keys
            self._write(KeyList(keys=tuple(keys)))
            os.fsync(lock)
        finally:
            os.close(lock)

    def _write(self, keys: KeyList) -> None:
        partial = self.path.with_suffix(".partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(keys.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(descriptor)
            partial.replace(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from None


class KeySource(Protocol):
    """Where a server has its keys from. Neither method takes long."""

    def look(self) -> Hashable | None:
        """What is another after each change; None if there never was a key."""
        ...

    def read(self) -> tuple[Key, ...]:
        """The keys of now. ConfigError if they cannot be read."""
        ...


class KeyRing:
    """The keys that a server knows: those of the source as it is now, and the operator's own.

    Once there was a file, keys are needed for as long as the process lives: neither a file that is
    taken away nor one without keys opens the door again.
    """

    def __init__(self, source: KeySource, operator_key: str | None = None) -> None:
        """ConfigError if the source cannot be read; later that changes nothing."""
        self._source = source
        self._operator: tuple[Key, ...] = ()
        if operator_key is not None:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            self._operator = (
                Key(
                    name=OPERATOR,
                    sha256=digest(operator_key),
                    scopes=frozenset(SCOPES),
                    created=started,
                ),
            )
        self._version = source.look()
        self._keys = source.read()
        self._needed = bool(self._operator) or self._version is not None

    @property
    def needed(self) -> bool:
        """Whether there are, or were, any keys."""
        self._reload()
        return self._needed

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys of now."""
        self._reload()
        return self._operator + self._keys

    def find(self, text: str) -> Key | None:
        """The key of this text. It takes the same time whichever it is, or none."""
        wanted, found = digest(text), None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, wanted):
                found = key
        return found

    def _reload(self) -> None:
        """Read again what is another."""
        version = self._source.look()
        if version == self._version:
            return
        self._version = version
        self._needed = True
        try:
            self._keys = self._source.read()
            log.info("%d keys in %s", len(self._keys), self._source)
        except ConfigError as error:
            log.error("the keys stay as they were: %s", error)


def new_key(name: str, scopes: Sequence[str], limits: Limits) -> tuple[str, Key]:
    """A key and what is kept of it. ConfigError for a name that cannot be, and an unknown scope."""
    if not NAME.fullmatch(name) or name == OPERATOR:
        raise ConfigError(
            f"key {name[:80]!r}: a name is a letter, then at most 63 letters, digits, _ and -, "
            f"and not {OPERATOR!r}"
        )
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise ConfigError(f"scope {unknown[0]!r}: {choices(unknown[0], SCOPES)}")
    text = f"unmask-{secrets.token_urlsafe(BYTES)}"
    key = Key(
        name=name,
        sha256=digest(text),
        scopes=frozenset(scope for scope in SCOPES if scope in scopes),
        limits=limits,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return text, key


def check_free(name: str, names: Sequence[str]) -> None:
    """ConfigError for a name that is taken."""
    if name in names:
        raise ConfigError(f"key {name!r} exists: revoke it first, or choose another name")


def check_known(name: str, names: Sequence[str]) -> None:
    """ConfigError for a name that nobody has."""
    if name not in names:
        known = choices(name[:80], names) if names else "there are no keys"
        raise ConfigError(f"key {name[:80]!r} does not exist: {known}")


def digest(text: str) -> str:
    """What is kept of a key: its SHA-256, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
