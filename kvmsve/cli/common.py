"""What the commands share: complaints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BadInput


class UsageError(BadInput):
    """What the caller asked for cannot be done; the message says what to do instead."""


def complain(line: str, program: str = "kvmsve") -> None:
    """The line is on standard error, whole, behind what standard output was told: threads do not mix theirs.

    Nobody can be told where that cannot be.
    """
    with suppress(OSError, AttributeError):  # as below; the program's end tells it
        sys.stdout.flush()
    with suppress(OSError, AttributeError):  # full, or closed before Python started
        sys.stderr.write(f"{program}: {line}\n")
        sys.stderr.flush()


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """An OSError of the block is a UsageError that names the file."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
