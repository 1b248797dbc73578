"""A line of a recording is an operation, and an operation a line. The types in ops say what is right; msgspec checks.

What is wrong is looked for once more, field by field, only where a line was refused.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import cache, lru_cache
from operator import index
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from ..ops import OPERATIONS, STEPS, ErrorName, Hex, HexNumber, IdRegs, Operation, RegId, Step, Steps

U64_DIGITS = 16
OUTCOME = ("ret", "errno", "crash", "guest")  # written behind what was asked
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


NOT_READ = (msgspec.DecodeError, UnicodeError, RecursionError)  # text of half a character is UnicodeError
Fields = TypeVar("Fields", bound=msgspec.Struct)


class BadLine(Exception):
    """The line is no operation: the message says why."""


# How a recording writes the types that JSON does not have


def _to_bytes(text: str) -> Hex:
    data = Hex.fromhex(text)
    if 2 * len(data) != len(text):
        raise ValueError(text)  # white space
    return data


@lru_cache(maxsize=1 << 14)
def _to_reg_id(text: str) -> RegId:
    if len(text) != U64_DIGITS:
        raise ValueError(text)
    return RegId.from_bytes(_to_bytes(text), "big")


def _to_number(text: str) -> HexNumber:
    if not 0 < len(text) <= U64_DIGITS:
        raise ValueError(text)
    return HexNumber.from_bytes(_to_bytes("0" * (U64_DIGITS - len(text)) + text), "big")


@lru_cache(maxsize=1 << 8)
def _to_error_name(text: str) -> ErrorName:
    if text[:1] != "E" or not isinstance(getattr(errno, text, None), int):
        raise ValueError(text)
    return ErrorName(text)


def _to_id_regs(values: Any) -> IdRegs:
    if not isinstance(values, dict) or any(len(value) != U64_DIGITS for value in values.values()):
        raise ValueError(values)
    return IdRegs((_to_reg_id(name), int.from_bytes(_to_bytes(value), "little")) for name, value in values.items())


def _write_id_regs(values: dict[int, int]) -> dict[str, str]:
    return {f"{reg_id:016x}": value.to_bytes(8, "little").hex() for reg_id, value in values.items()}


def _to_steps(values: Any) -> Steps:
    if not isinstance(values, list):
        raise ValueError(values)
    return Steps(map(_to_step, values))


def _to_step(fields: Any) -> Step:
    kind = _kind_of_step(fields)
    if kind is None:
        raise ValueError(fields)
    return msgspec.convert(fields, STEPS[kind], dec_hook=_read_field)


def _kind_of_step(fields: Any) -> str | None:
    """The field that says which step it is."""
    return next((name for name in STEPS if name in fields), None) if isinstance(fields, dict) else None


def _write_steps(steps: list[Step]) -> list[dict[str, Any]]:
    return list(map(write_fields, steps))


READERS: dict[Any, Callable[[Any], Any]] = {  # ValueError or TypeError for what is not so written
    Hex: _to_bytes, RegId: _to_reg_id, HexNumber: _to_number, ErrorName: _to_error_name, IdRegs: _to_id_regs,
    Steps: _to_steps,
}  # fmt: skip
WRITERS: dict[Any, Callable[[Any], Any]] = {
    Hex: bytes.hex, RegId: "{:016x}".format, HexNumber: "{:x}".format, ErrorName: str, IdRegs: _write_id_regs,
    Steps: _write_steps,
}  # fmt: skip


def _read_field(wanted: Any, value: Any) -> Any:
    """msgspec's hook: a field of a type that JSON does not have."""
    return READERS[wanted](value)


# Lines


_decoder = msgspec.json.Decoder(Union[OPERATIONS], dec_hook=_read_field)  # noqa: UP007
_NAMED = {operation.__struct_config__.tag: operation for operation in OPERATIONS}


def decode(line: bytes) -> Operation:
    """The operation that a line says. BadLine names the field and what was expected."""
    try:
        operation: Operation = _decoder.decode(line)
    except NOT_READ:
        raise BadLine(_complaint(line)) from None
    flaw = operation.flaw()
    if flaw:
        raise BadLine(flaw)
    return operation


def encode(operation: Operation) -> bytes:
    """The line that says the operation, without its newline."""
    return write_object({"op": operation.name, **write_fields(operation)})


def write_object(fields: dict[str, Any]) -> bytes:
    """A line of these fields."""
    return json.dumps(fields, separators=(",", ":"), default=index).encode()


def read_fields(struct: type[Fields], fields: dict[str, Any]) -> Fields:
    """The struct of these fields, in which complaint_of_fields finds nothing."""
    return msgspec.convert(fields, struct, dec_hook=_read_field)


def write_fields(thing: msgspec.Struct) -> dict[str, Any]:
    """What is not as by default, what was asked before how it ended."""
    written = {
        info.encode_name: _written(info.type, value)
        for info in _infos(type(thing))
        if (value := getattr(thing, info.name)) is not info.default and value != info.default
    }
    return written | {name: written.pop(name) for name in OUTCOME if name in written}


@cache
def _infos(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(struct)


def _written(declared: Any, value: Any) -> Any:
    """The value as JSON has it."""
    wanted = _unwrapped(declared)
    if wanted in WRITERS:
        return WRITERS[wanted](value)
    return [_written(get_args(wanted)[0], each) for each in value] if isinstance(value, list) else value


@cache
def _unwrapped(declared: Any) -> Any:
    """The type without None and without what is said of it."""
    if get_origin(declared) is Annotated:
        return _unwrapped(get_args(declared)[0])
    if get_origin(declared) in (Union, UnionType):
        return _unwrapped(next(part for part in get_args(declared) if part is not NoneType))
    return declared


# What is wrong with a line


def parse_object(line: bytes) -> dict[str, Any]:
    """The line as JSON. BadLine where it is no object, or says a field twice."""
    try:
        parsed = json.loads(line.decode(), object_pairs_hook=_once_each)
    except UnicodeDecodeError:
        raise BadLine("not UTF-8: is this a recording?") from None
    except (json.JSONDecodeError, RecursionError):
        why = "a byte order mark" if line.startswith(BYTE_ORDER_MARK) else "not JSON"
        raise BadLine(f"{why}: is this a recording?") from None
    except ValueError:
        raise BadLine("a number has more digits than any that a recording needs") from None
    if not isinstance(parsed, dict):
        raise BadLine("not a JSON object: is this a recording?")
    return parsed


def _once_each(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) != len(fields):
        names = [name for name, _ in fields]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadLine(f"{shorten(twice)} is there twice")
    return found


def _complaint(line: bytes) -> str:
    """Why the line is no operation."""
    try:
        fields = parse_object(line)
    except BadLine as bad:
        return str(bad)
    kind = fields.get("op")
    if not isinstance(kind, str) or kind not in _NAMED:
        return f"unknown operation {kind!r:.40}"
    guest = fields.get("guest")
    steps = guest if isinstance(guest, list) and kind == "run" else []
    complaints = (*map(_complaint_of_step, steps), complaint_of_fields(_NAMED[kind], fields))
    return next(filter(None, complaints), "not JSON: is this a recording?")


def _complaint_of_step(fields: Any) -> str:
    kind = _kind_of_step(fields)
    return complaint_of_fields(STEPS[kind], fields) if kind else f"unknown guest step {shorten(fields)}"


def complaint_of_fields(struct: type[msgspec.Struct], fields: dict[str, Any]) -> str:
    """The first field that is missing or has another value than its type allows; nothing where all are right."""
    for info in _infos(struct):
        name, declared = info.encode_name, info.type
        if name not in fields:
            if info.default is msgspec.NODEFAULT:
                return f'"{name}" is missing'
            continue
        try:
            msgspec.convert(fields[name], declared, dec_hook=_read_field)
        except NOT_READ:
            return f'"{name}" is {shorten(fields[name])}, not {_told(declared)}'
    return ""


def _told(declared: Any) -> str:
    """The type in words."""
    if get_origin(declared) is Annotated:
        return str(get_args(declared)[1].description)
    if get_origin(declared) in (Union, UnionType):
        return _told(next(part for part in get_args(declared) if part is not NoneType))
    return str(declared.__doc__)


def shorten(value: object) -> str:
    """The value as JSON, short enough for a line."""
    text = json.dumps(value, default=repr)
    return text if len(text) < 40 else text[:36] + " ..."
