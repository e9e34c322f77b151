"""Folders that come into being whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from unmask.errors import RequestError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A path at which to make a folder, which becomes ``out`` when nothing has failed.

    RequestError says that ``out`` is taken or cannot be written.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RequestError(f"out {out}: is there already; name a new folder", "out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, so that it comes into being by one rename.
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            draft = Path(scratch) / out.name
            yield draft
            draft.rename(out)
    except OSError as error:
        raise RequestError(f"out {out}: {error.strerror}", "out") from error
