"""Recordings: files of calls on a vCPU and their results, read and written line by line.

The format is described in tests/recordings/FORMAT.md. A reader checks all that a replay will rely on, so that damage
is reported by file and line and nowhere else.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import BadInput
from ..files import naming, whole_file
from ..machine import Host
from ..ops import Operation
from .codec import BadLine, decode, encode
from .header import header_line, parse_header
from .lines import DamagedFile, read_lines

REASON_CHARACTERS = 300


class RecordingError(BadInput):
    """The file is not a recording that can be used: names file, line and reason."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        if len(reason) > REASON_CHARACTERS:
            reason = f"{reason[:REASON_CHARACTERS]} ..."
        super().__init__(f"{path}: {reason}" if line is None else f"{path}, line {line}: {reason}")


class Recording:
    """An open recording: its header, and its operations with their line numbers, once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The header is read. RecordingError for a file that is missing, damaged or something else."""
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        self._lines = self._read_lines()
        try:
            self.header = parse_header(next(self._lines)[1])
        except StopIteration:
            raise RecordingError(self.path, None, "the file is empty") from None
        except BadLine as bad:
            raise RecordingError(self.path, 1, str(bad)) from None

    def __iter__(self) -> Iterator[tuple[int, Operation]]:
        number = 1
        try:
            for number, line in self._lines:
                yield number, decode(line)
        except BadLine as bad:
            raise RecordingError(self.path, number, str(bad)) from None

    @property
    def share_read(self) -> float:
        """How much of the file is read, 0 to 1; 0 where nobody can tell, as of a pipe."""
        try:
            return 0.0 if self._file is None else self._file.tell() / os.fstat(self._file.fileno()).st_size
        except (OSError, ValueError, ZeroDivisionError):  # no position; closed, at its end
            return 0.0 if self._file is None or not self._file.closed else 1.0

    def _opened(self, file: IO[bytes]) -> None:
        self._file = file

    def _read_lines(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        try:
            for number, line in enumerate(read_lines(self.path, self._opened), start=1):
                yield number, line
        except DamagedFile as damage:
            raise RecordingError(self.path, number + 1 if number else None, str(damage)) from None


class Writer:
    """A recording that is being written; `write_recording` opens one."""

    def __init__(self, file: IO[bytes], path: Path, host: Host, source: str) -> None:
        self._file = file
        self._path = path
        self._write(header_line(host, source))

    def write(self, operation: Operation) -> None:
        """One more operation."""
        self._write(encode(operation))

    def _write(self, line: bytes) -> None:
        with naming(self._path):
            self._file.write(line + b"\n")


@contextmanager
def write_recording(path: str | os.PathLike[str], host: Host, source: str) -> Iterator[Writer]:
    """A Writer whose file is there, complete, when the block ends well; .xz packs it."""
    path = Path(path)
    opened = lzma.open if path.suffix == ".xz" else open
    with whole_file(path) as partial:
        with naming(path):
            file = opened(partial, "wb")
        try:
            yield Writer(file, path, host, source)
        finally:
            with naming(path):
                file.close()
