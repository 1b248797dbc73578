"""Files that are complete under their name or not there at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well, and is removed when it does not.

    A link is followed; what is there and no regular file (a pipe, a device) is written to as it is.
    """
    if _is_special(path):
        yield path
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block, which reads or writes this file, names it."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _is_special(path: Path) -> bool:
    """Something is there and is no regular file. OSError where links only lead to each other."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False
