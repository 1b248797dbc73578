"""Recordings: files of calls on a vCPU and their results, read and written line by line.

The format is described in tests/recordings/FORMAT.md. A reader checks all that a replay will rely on, so that damage
is reported by file and line and nowhere else.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from . import reglist
from .abi import Abi, abi
from .output import whole_file
from .schema import (
    FIELDS_OF_SUCCESS,
    HOST_FIELDS,
    OP_FIELDS,
    OPTIONAL_HOST_FIELDS,
    OPTIONAL_OP_FIELDS,
    STEP_FIELDS,
    Fields,
    Op,
    is_count,
    is_number,
    is_object,
    is_text,
)
from .vcpu import Host

FORMAT = "kvmsve-recording"
VERSION = 1
XZ_MAGIC = b"\xfd7zXZ\0"
LINE_BYTES_MAX = 16 << 20  # a run that reads all of ZA at vq 16 a few dozen times still fits


class RecordingError(Exception):
    """The file is not a recording that can be used: names file, line and reason."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if line is None else f"{path}, line {line}: {reason}")


@dataclass(frozen=True)
class Header:
    """What line 1 says of the host that was recorded."""

    abi: Abi
    host: Mapping[str, Any]
    source: str

    def create_host(self) -> Host:
        """A host like the recorded one; ValueError if it cannot be."""
        host = self.host
        return Host(
            abi=self.abi,
            sve_vqs=host["sve_vqs"],
            sme_vqs=host["sme_vqs"],
            sme2=host["sme2"],
            fa64=host["fa64"],
            features_offered=host.get("features_offered"),
            id_regs={int(k, 16): int.from_bytes(bytes.fromhex(v), "little") for k, v in host["id_regs"].items()},
        )

    @property
    def unlisted(self) -> int:
        """How many more registers without vector meaning the recorded kernel lists than this model."""
        ours = len(reglist.OTHER_REGS)
        return int(self.host.get("reg_list_base", ours)) - ours


class Recording:
    """An open recording: its header, and its operations with their line numbers, once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The header is read. RecordingError for a file that is missing, damaged or something else."""
        self.path = Path(path)
        self._lines = self._read_lines()
        _, first = next(self._lines, (1, None))
        self.header = self._check_header(first)

    def __iter__(self) -> Iterator[tuple[int, Op]]:
        for number, line in self._lines:
            yield number, self._check_op(number, line)

    def _read_lines(self) -> Iterator[tuple[int, Op]]:
        number = 0
        try:
            with self.path.open("rb") as raw, _unpacked(raw) as file:
                while line := file.readline(LINE_BYTES_MAX):
                    number += 1
                    if not line.endswith(b"\n"):
                        too_long = len(line) == LINE_BYTES_MAX
                        raise self._error(number, "the line is too long" if too_long else "the file ends in mid-line")
                    yield number, self._parse(number, line)
        except (OSError, EOFError, lzma.LZMAError) as error:
            reason = getattr(error, "strerror", None) or f"damaged xz data ({error})"
            raise self._error(number + 1 if number else None, reason) from None

    def _parse(self, number: int, line: bytes) -> Op:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            raise self._error(number, "not JSON: is this a recording?") from None
        if not isinstance(parsed, dict):
            raise self._error(number, "not a JSON object: is this a recording?")
        return parsed

    def _check_header(self, header: Op | None) -> Header:
        if header is None:
            raise self._error(None, "the file is empty")
        if header.get("format") != FORMAT:
            raise self._error(1, f'no recording: "format" is not "{FORMAT}"')
        if header.get("version") != VERSION:
            raise self._error(1, f"version {header.get('version')!r}; this program reads {VERSION}")
        self._check_fields(1, header, {"abi": is_text, "host": is_object})
        self._check_fields(1, header["host"], HOST_FIELDS, OPTIONAL_HOST_FIELDS)
        try:
            found = Header(abi(header["abi"]), header["host"], str(header.get("source", "")))
            found.create_host()
        except ValueError as error:
            raise self._error(1, str(error)) from None
        return found

    def _check_op(self, number: int, op: Op) -> Op:
        kind = op.get("op")
        if not isinstance(kind, str) or kind not in OP_FIELDS:
            raise self._error(number, f"unknown operation {kind!r}")
        self._check_fields(number, op, OP_FIELDS[kind], OPTIONAL_OP_FIELDS)
        if op.get("ret", 0) < 0 and "errno" not in op:
            raise self._error(number, f'"{kind}" failed without saying how: no "errno"')
        for name in FIELDS_OF_SUCCESS.get(kind, ()):
            if op.get("ret", 0) >= 0 and name not in op:
                raise self._error(number, f'"{kind}" succeeded, but has no "{name}"')
        for step in op.get("guest", ()):
            self._check_step(number, step)
        return op

    def _check_step(self, number: int, step: Op) -> None:
        kind = next((kind for kind in STEP_FIELDS if kind in step), None)
        if kind is None:
            raise self._error(number, f"unknown guest step {json.dumps(step)[:60]}")
        self._check_fields(number, step, STEP_FIELDS[kind], {"vl": is_count, "mask": is_number})

    def _check_fields(self, number: int, thing: Op, needed: Fields, optional: Fields | None = None) -> None:
        for name, is_right in needed.items():
            if name not in thing:
                raise self._error(number, f'"{name}" is missing')
            if not is_right(thing[name]):
                raise self._error(number, f'"{name}" is {shorten(thing[name])}, {is_right.__doc__}')
        for name, is_right in (optional or {}).items():
            if name in thing and not is_right(thing[name]):
                raise self._error(number, f'"{name}" is {shorten(thing[name])}, {is_right.__doc__}')

    def _error(self, line: int | None, reason: str) -> RecordingError:
        return RecordingError(self.path, line, reason)


class Writer:
    """A recording that is being written; `write_recording` opens one."""

    def __init__(self, file: IO[bytes], host: Host, source: str) -> None:
        self._file = file
        self._write(
            {"format": FORMAT, "version": VERSION, "abi": host.abi.name, "host": _describe(host), "source": source}
        )

    def write(self, op: str, **fields: Any) -> None:
        """One more operation."""
        self._write({"op": op, **fields})

    def _write(self, line: Op) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


@contextmanager
def write_recording(path: str | os.PathLike[str], host: Host, source: str) -> Iterator[Writer]:
    """A Writer whose file is there, complete, when the block ends well; .xz packs it."""
    path = Path(path)
    opened = lzma.open if path.suffix == ".xz" else open
    with whole_file(path) as partial, opened(partial, "wb") as file:
        yield Writer(file, host, source)


def _unpacked(file: BufferedReader) -> IO[bytes]:
    return lzma.open(file) if file.peek(len(XZ_MAGIC)).startswith(XZ_MAGIC) else file


def _describe(host: Host) -> dict[str, Any]:
    return {
        "sve_vqs": sorted(host.sve_vqs),
        "sme_vqs": sorted(host.sme_vqs),
        "sme2": host.sme2,
        "fa64": host.fa64,
        "features_valid": list(range(host.abi.max_features)),
        "features_offered": sorted(host.features_offered),
        "reg_list_base": len(reglist.OTHER_REGS),
        "id_regs": {f"{reg_id:016x}": value.to_bytes(8, "little").hex() for reg_id, value in host.id_regs.items()},
    }


def shorten(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else text[:36] + " ..."
