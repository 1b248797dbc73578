"""Recordings: files of calls on a vCPU and their results, read and written line by line.

The format is described in tests/recordings/FORMAT.md. A reader checks all that a replay will rely on, so that damage
is reported by file and line and nowhere else.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from typing import IO, Any

from ..errors import BadInput
from ..facts import Abi, abi
from ..files import naming, whole_file
from ..machine import Host
from ..rules import reglist
from .lines import DamagedFile, read_lines
from .schema import (
    FIELDS_OF_SUCCESS,
    HOST_FIELDS,
    OP_FIELDS,
    OPTIONAL_HOST_FIELDS,
    OPTIONAL_OP_FIELDS,
    OPTIONAL_STEP_FIELDS,
    STEP_FIELDS,
    Fields,
    Op,
    is_object,
    is_text,
)

FORMAT = "kvmsve-recording"
VERSION = 1
REASON_CHARACTERS = 300
BYTE_ORDER_MARK = "\ufeff"


class RecordingError(BadInput):
    """The file is not a recording that can be used: names file, line and reason."""

    def __init__(self, path: Path, line: int | None, reason: str) -> None:
        if len(reason) > REASON_CHARACTERS:
            reason = f"{reason[:REASON_CHARACTERS]} ..."
        super().__init__(f"{path}: {reason}" if line is None else f"{path}, line {line}: {reason}")


@dataclass(frozen=True)
class Header:
    """What line 1 says of the host that was recorded."""

    abi: Abi
    host: Mapping[str, Any]
    source: str

    def create_host(self, revision: Abi | None = None) -> Host:
        """A host like the recorded one, on request with the kernel of another revision; ValueError if it cannot be."""
        host = self.host
        return Host(
            abi=revision or self.abi,
            sve_vqs=host["sve_vqs"],
            sme_vqs=host["sme_vqs"],
            sme2=host["sme2"],
            fa64=host["fa64"],
            fpmr=host.get("fpmr", False),
            big_endian=host.get("big_endian", False),
            features_offered=self._features_offered(revision),
            id_regs={int(k, 16): int.from_bytes(bytes.fromhex(v), "little") for k, v in host["id_regs"].items()},
        )

    def _features_offered(self, revision: Abi | None) -> Iterable[int] | None:
        """The recorded feature bits; another revision offers SME by its own rule, under its own number."""
        offered: list[int] | None = self.host.get("features_offered")
        if offered is None or revision is None or revision == self.abi:
            return offered
        others = {*offered} - {self.abi.sme_feature, revision.sme_feature}
        if revision.sme_feature is None or not (self.host["sme_vqs"] or not revision.init_checks_host_sme):
            return others
        return others | {revision.sme_feature}

    def under(self, revision: Abi) -> Header:
        """The same host with a kernel of this revision; SME keeps the numbers that it has in the recording."""
        recorded = self.abi
        if revision.sme_feature is None or recorded.sme_feature is None:
            return replace(self, abi=revision)
        numbered = replace(
            revision,
            sme_feature=recorded.sme_feature,
            sme_cap=recorded.sme_cap,
            sme_vls=recorded.sme_vls,
            max_features=revision.max_features + recorded.sme_feature - revision.sme_feature,
        )
        return replace(self, abi=numbered)

    @property
    def unlisted(self) -> int:
        """How many more registers without vector meaning the recorded kernel lists than this model."""
        ours = _reg_list_base(self.host.get("fpmr", False))
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
            for number, line in enumerate(read_lines(self.path), start=1):
                yield number, self._parse(number, line)
        except DamagedFile as damage:
            raise self._error(number + 1 if number else None, str(damage)) from None

    def _parse(self, number: int, line: bytes) -> Op:
        try:
            parsed = json.loads(line.decode(), object_pairs_hook=_once_each)
        except UnicodeDecodeError:
            raise self._error(number, "not UTF-8: is this a recording?") from None
        except (json.JSONDecodeError, RecursionError):
            why = "a byte order mark" if line.startswith(BYTE_ORDER_MARK.encode()) else "not JSON"
            raise self._error(number, f"{why}: is this a recording?") from None
        except FieldTwiceError as twice:
            raise self._error(number, f"{shorten(str(twice))} is there twice") from None
        except ValueError:
            raise self._error(number, "a number has more digits than any that a recording needs") from None
        if not isinstance(parsed, dict):
            raise self._error(number, "not a JSON object: is this a recording?")
        return parsed

    def _check_header(self, header: Op | None) -> Header:
        if header is None:
            raise self._error(None, "the file is empty")
        if header.get("format") != FORMAT:
            raise self._error(1, f'no recording: "format" is not "{FORMAT}"')
        version = header.get("version")
        if type(version) is not int or version != VERSION:
            raise self._error(1, f"version {shorten(version)}; this program reads {VERSION}")
        self._check_fields(1, header, {"abi": is_text, "host": is_object})
        self._check_fields(1, header["host"], HOST_FIELDS, OPTIONAL_HOST_FIELDS)
        try:
            revision = abi(header["abi"])
            revision = replace(revision, **_numbers(header["host"]))
            found = Header(revision, header["host"], str(header.get("source", "")))
            found.create_host()
        except ValueError as error:
            raise self._error(1, str(error)) from None
        return found

    def _check_op(self, number: int, op: Op) -> Op:
        """The operation, with only those fields that it has by the format."""
        kind = op.get("op")
        if not isinstance(kind, str) or kind not in OP_FIELDS:
            raise self._error(number, f"unknown operation {kind!r:.40}")
        optional = OPTIONAL_OP_FIELDS.get(kind, {})
        self._check_fields(number, op, OP_FIELDS[kind], optional)
        op = {name: value for name, value in op.items() if name in ("op", *OP_FIELDS[kind], *optional)}
        self._check_outcome(number, op)
        if "avail" in op and 2 * op["avail"] != len(op["buf"]):
            raise self._error(number, f'"avail" is {op["avail"]}, "buf" has {len(op["buf"]) // 2} bytes')
        if op.get("copied", 0) > op.get("avail", 0):
            raise self._error(number, f'"copied" is {op["copied"]}, but "avail" is {op["avail"]}')
        if "guest" in op:
            op["guest"] = [self._check_step(number, step) for step in op["guest"]]
        return op

    def _check_outcome(self, number: int, op: Op) -> None:
        kind, failed = op["op"], op.get("ret", 0) < 0
        if failed and op["ret"] != -1:
            raise self._error(number, f'"ret" is {op["ret"]}; a call that fails returns -1')
        if failed and "errno" not in op and not op.get("crash"):
            raise self._error(number, f'"{kind}" failed without saying how: no "errno"')
        for name in FIELDS_OF_SUCCESS.get(kind, ()):
            if not failed and name not in op:
                raise self._error(number, f'"{kind}" succeeded, but has no "{name}"')
        for name in ("errno", "crash"):
            if not failed and op.get(name):
                raise self._error(number, f'"{kind}" succeeded, but has "{name}"')

    def _check_step(self, number: int, step: Op) -> Op:
        kind = next((kind for kind in STEP_FIELDS if kind in step), None)
        if kind is None:
            raise self._error(number, f"unknown guest step {shorten(step)}")
        self._check_fields(number, step, STEP_FIELDS[kind], OPTIONAL_STEP_FIELDS)
        return {name: value for name, value in step.items() if name in (*STEP_FIELDS[kind], *OPTIONAL_STEP_FIELDS)}

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


class FieldTwiceError(ValueError):
    """An object has two fields of one name: which of them counts?"""


def _once_each(fields: list[tuple[str, Any]]) -> Op:
    found = dict(fields)
    if len(found) != len(fields):
        names = [name for name, _ in fields]
        raise FieldTwiceError(next(name for name in names if names.count(name) > 1))
    return found


class Writer:
    """A recording that is being written; `write_recording` opens one."""

    def __init__(self, file: IO[bytes], path: Path, host: Host, source: str) -> None:
        self._file = file
        self._path = path
        self._write(
            {"format": FORMAT, "version": VERSION, "abi": host.abi.name, "host": _describe(host), "source": source}
        )

    def write(self, op: str, **fields: Any) -> None:
        """One more operation."""
        self._write({"op": op, **fields})

    def _write(self, line: Op) -> None:
        with naming(self._path):
            self._file.write(json.dumps(line, separators=(",", ":"), default=index).encode() + b"\n")


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


def _numbers(host: Op) -> Op:
    """The numbers of a revision that its series changed at every rebase, as this kernel has them."""
    numbers: Op = {name: host[name] for name in ("sme_feature", "sme_cap") if name in host}
    if "sme_vls" in host:
        numbers["sme_vls"] = int(host["sme_vls"], 16)
    if host.get("features_valid"):
        numbers["max_features"] = max(host["features_valid"]) + 1
    return numbers


def _reg_list_base(has_fpmr: bool) -> int:
    """How many registers this model lists of a vCPU without vectors, core registers aside."""
    return len(reglist.OTHER_REGS) + has_fpmr


def _numbers_of(revision: Abi) -> Op:
    numbers: Op = {"sme_feature": revision.sme_feature, "sme_cap": revision.sme_cap}
    if revision.sme_vls is not None:
        numbers["sme_vls"] = f"{revision.sme_vls:016x}"
    return {name: number for name, number in numbers.items() if number is not None}


def _describe(host: Host) -> dict[str, Any]:
    return {
        "sve_vqs": sorted(host.sve_vqs),
        "sme_vqs": sorted(host.sme_vqs),
        "sme2": host.sme2,
        "fa64": host.fa64,
        "features_valid": list(range(host.abi.max_features)),
        "features_offered": sorted(host.features_offered),
        "fpmr": host.fpmr,
        **({"big_endian": True} if host.big_endian else {}),
        **_numbers_of(host.abi),
        "reg_list_base": _reg_list_base(host.fpmr),
        "id_regs": {f"{reg_id:016x}": value.to_bytes(8, "little").hex() for reg_id, value in host.id_regs.items()},
    }


def shorten(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else text[:36] + " ..."
