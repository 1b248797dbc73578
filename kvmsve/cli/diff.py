"""kvmsve diff: what differs between two revisions."""

from __future__ import annotations

import argparse

from ..diff import Comparison, differences, kinds, table
from ..facts import Abi
from ..ops import Difference
from ..ops import operations as ops
from ..recording import misuse_at
from ..report import Cells, Row
from .common import UsageError
from .recordings import Reading
from .terminal import print_table

KINDS_SHOWN = 10


def run(options: argparse.Namespace) -> int:
    """What differs between the two revisions is printed, of the interface or of one recording's operations."""
    first, second = options.revisions
    if options.recording is not None:
        return _diff_recording(Reading(options.recording), first, second)
    try:
        rows = differences(first, second, (options.sve, options.sme))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not rows:
        print("no difference")
        return 0
    print_table(("", first.name, second.name), list(table(rows)))
    return 1


def _diff_recording(recording: Reading, first: Abi, second: Abi) -> int:
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
    left: list[Cells] = [(f"  vCPU {number}: {names}", *texts) for number, names, texts in comparison.registers()]
    if not found and not left:
        print(f"no difference in {count} operations")
        return 0
    alike = kinds(found)
    more = f", {len(alike) - KINDS_SHOWN} kinds not shown" if len(alike) > KINDS_SHOWN else ""
    rows: list[Row] = [f"{len(found)} of {count} operations differ{more}"]
    rows += [(f"  {_first_of(kind)}", kind[0].expected, kind[0].actual) for kind in alike[:KINDS_SHOWN]]
    if comparison.crashed:
        rows.append("a host has crashed there, nothing more was done")
    closing = "no difference in registers at the end" if comparison.open_vcpus else "no vCPU is open at the end"
    rows += ["registers at the end" if left else closing, *left]
    print_table(("", first.name, second.name), rows)
    return 1


def _first_of(alike: list[Difference]) -> str:
    first = alike[0]
    where = f", {first.where}" if first.where else ""
    return f"line {first.line}, {first.op}{where}" + (f" ({len(alike)} alike)" if len(alike) > 1 else "")
