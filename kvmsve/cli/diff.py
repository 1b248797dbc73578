"""kvmsve diff: what differs between two revisions."""

from __future__ import annotations

import argparse

from ..diff import Comparison, columns, differences, kinds, table
from ..facts import Abi
from ..ops import Difference
from ..ops import operations as ops
from ..recording import Recording, misuse_at
from .common import UsageError

KINDS_SHOWN = 10


def run(options: argparse.Namespace) -> int:
    """What differs between the two revisions is printed, of the interface or of one recording's operations."""
    first, second = options.revisions
    if options.recording is not None:
        return _diff_recording(Recording(options.recording), first, second)
    try:
        rows = differences(first, second, (options.sve, options.sme))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not rows:
        print("no difference")
        return 0
    print(*table(rows, first, second), sep="\n")
    return 1


def _diff_recording(recording: Recording, first: Abi, second: Abi) -> int:
    comparison = Comparison(recording, first, second)
    found, count = [], 0
    for line, op in recording:
        with misuse_at(recording.path, line):
            difference = comparison.play(line, op)
        count += not isinstance(op, ops.Heading)
        if difference is not None:
            found.append(difference)
        if comparison.crashed:
            break
    left = [(f"  vCPU {number}: {names}", *texts) for number, names, texts in comparison.registers()]
    if not found and not left:
        print(f"no difference in {count} operations")
        return 0
    cells = [(f"  {_first_of(alike)}", alike[0].expected, alike[0].actual) for alike in kinds(found)]
    title, *lines = columns([("", first.name, second.name), *cells[:KINDS_SHOWN], *left])
    more = f", {len(cells) - KINDS_SHOWN} kinds not shown" if len(cells) > KINDS_SHOWN else ""
    print(title, f"{len(found)} of {count} operations differ{more}", *lines[: len(lines) - len(left)], sep="\n")
    if comparison.crashed:
        print("a host has crashed there, nothing more was done")
    closing = "no difference in registers at the end" if comparison.open_vcpus else "no vCPU is open at the end"
    print("registers at the end" if left else closing, *lines[len(lines) - len(left) :], sep="\n")
    return 1


def _first_of(alike: list[Difference]) -> str:
    first = alike[0]
    where = f", {first.where}" if first.where else ""
    return f"line {first.line}, {first.op}{where}" + (f" ({len(alike)} alike)" if len(alike) > 1 else "")
