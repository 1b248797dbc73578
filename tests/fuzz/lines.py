"""Lines of recordings: short stories out of the recordings, and lines that are a little other than these."""

from __future__ import annotations

import errno
import json
import lzma
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent.parent
RECORDINGS = sorted([*ROOT.glob("tests/recordings/**/*.jsonl.xz"), *ROOT.glob("kvmsve/recording/shipped/*.jsonl.xz")])

Line = dict[str, Any]
Story = list[Line]


def text(lines: Iterable[Line]) -> bytes:
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


@cache
def stories(longest: int) -> list[Story]:
    """Headers with what was done to one VM, no longer than so many bytes: those that have something of their own.

    That is a revision's operation, guest step or errno that no story before has.
    """
    kept, seen = [], set()
    for path in RECORDINGS:
        with lzma.open(path) as file:
            header, *operations = map(json.loads, file)
        header["source"] = ""
        for story in _by_vm(operations):
            cut = _cut([header, *story], longest)
            kinds = {(header["abi"], *kind) for line in cut[1:] for kind in _kinds(line)}
            if not kinds <= seen:
                seen |= kinds
                kept.append(cut)
    return kept


def _by_vm(operations: Iterable[Line]) -> Iterable[Story]:
    """The operations on each VM and its vCPUs, in order."""
    vms: dict[int, Story] = {}
    vm_of: dict[int, int] = {}
    for line in operations:
        if line["op"] == "create_vcpu":
            vm_of[line["vcpu"]] = line["vm"]
        vm = line["vm"] if "vm" in line else vm_of.get(line.get("vcpu", -1))
        if vm is not None:
            vms.setdefault(vm, []).append(line)
    return vms.values()


def _cut(story: Story, longest: int) -> Story:
    """The start of a story, without lines that are long by themselves."""
    room, cut = longest, []
    for line in story:
        size = len(text([line]))
        if size < longest // 2:
            room -= size
            if room < 0:
                break
            cut.append(line)
    return cut


def _kinds(line: Line) -> Iterator[tuple[str, ...]]:
    yield line["op"], line.get("errno", "")
    for step in line.get("guest", ()):
        yield "guest", next(iter(step)), str(next(iter(step.values())))[:2]


# Changes

NUMBERS = [0, 1, -1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 239, 255, 512, 1 << 20, (1 << 31) - 1, 1 << 31,
           (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 31), -(1 << 31) - 1,
           -(1 << 63), 10**30]  # fmt: skip
IDS = ["6080000000150000", "6050000000150400", "6050000000150600", "606000000015ffff", "606000000017ffff",
       "606000000017fffe", "6060000000170600", "6080000000170000", "60800000001703e0", "603000000013da12",
       "603000000013c090", "603000000013c096", "603000000013c806", "603000000013c020", "603000000013c021",
       "603000000013c025", "603000000013da22", "6040000000100054", "60200000001000d4", "6030000000100000",
       "6020000000110000", "60f0000000150000", "0000000000000000", "ffffffffffffffff"]  # fmt: skip
TEXTS = ["", "x", "z0", "z31", "z32", "p15", "p16", "v0", "v", "za", "zt0", "zp", "zpffr", "ffr", "sve", "smidr",
         "svcr", "zcr", "smcr", "cpacr", "fpsr", "fpcr", "fpmr", "tpidr2", "smpri", "sm", "any", "vm", "rfc-v2", "v5",
         "v10", "v12", "mainline-7.3", "rfc-v2-posted", "\ud800", "\0", "é", "z" * 300, "1" * 5000]  # fmt: skip
ERRNOS = [*errno.errorcode.values(), "EOF", "E"]
OTHERS: list[Any] = [None, True, False, 0.5, -0.0, 1e300, [], {}, [[]], [{}], {"": None}]


def change(content: bytes, pick: Random) -> bytes:
    """One to three changes of lines or of a field in a line."""
    lines = content.split(b"\n")
    for _ in range(pick.choice((1, 1, 2, 3))):
        at = pick.randrange(len(lines))
        match pick.randrange(16):
            case 0:
                del lines[at : at + pick.choice((1, 1, 2, 4))]
            case 1:
                lines.insert(at, pick.choice(lines))
            case 2:
                lines.insert(at, lines.pop(pick.randrange(len(lines))))
            case 3 | 4:
                lines.insert(at, text([pick.choice(pick.choice(stories(1500))[1:])])[:-1])
            case 5:
                lines[0] = text([pick.choice(stories(1500))[0]])[:-1]
            case 6:
                lines[0] = _changed_line(lines[0], pick)
            case _:
                lines[at] = _changed_line(lines[at], pick)
        lines = lines or [b""]
    return b"\n".join(lines)


def _changed_line(line: bytes, pick: Random) -> bytes:
    try:
        parsed = json.loads(line)
        _change_within(parsed, pick)
        return json.dumps(parsed, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return line


def _change_within(thing: Any, pick: Random) -> None:
    """One place in an object or array has another value, or is gone, or is new."""
    if not isinstance(thing, dict | list) or not thing:
        return
    key = pick.choice(list(thing)) if isinstance(thing, dict) else pick.randrange(len(thing))
    value = thing[key]
    if isinstance(value, dict | list) and value and pick.random() < 0.8:
        _change_within(value, pick)
    elif pick.random() < 0.06:
        del thing[key]
    elif pick.random() < 0.06:
        if isinstance(thing, dict):
            thing[pick.choice(_field_names())] = _other(value, pick)
        else:
            thing.insert(key, value)
    else:
        thing[key] = _other(value, pick)


@cache
def _field_names() -> list[str]:
    lines = [line for story in stories(1500) for line in story]
    parts = [part for line in lines for part in (line, line.get("host", {}), *line.get("guest", ()))]
    return sorted({name for part in parts for name in part})


def _other(value: Any, pick: Random) -> Any:
    """A value that could stand there too, seldom one of another type."""
    if pick.random() < 0.08:
        return pick.choice((pick.choice(OTHERS), pick.choice(NUMBERS), pick.choice(TEXTS)))
    match value:
        case bool():
            return not value
        case int():
            return pick.choice((value + 1, value - 1, value ^ 1 << pick.randrange(9), pick.choice(NUMBERS)))
        case str() if value[:1] == "E":
            return pick.choice(ERRNOS)
        case str() if len(value) == 16:
            return pick.choice((pick.choice(IDS), _other_digit(value, pick)))
        case str() if value and all(digit in "0123456789abcdef" for digit in value):
            return pick.choice((_other_digit(value, pick), value[:-2], value + "00", value[:-1], value * 2))
    return pick.choice(TEXTS)


def _other_digit(value: str, pick: Random) -> str:
    at = pick.randrange(len(value))
    return value[:at] + pick.choice("0123456789abcdefgF ") + value[at + 1 :]
