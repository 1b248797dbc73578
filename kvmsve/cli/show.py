"""kvmsve show: a vCPU as it stands at a line of a recording."""

from __future__ import annotations

import argparse

from ..ops import Difference
from ..recording import Replay, played
from ..report import describe
from .common import UsageError
from .recordings import Reading
from .terminal import print_styled


def run(options: argparse.Namespace) -> int:
    """The vCPU of the last operation up to the line is printed as it stands then."""
    recording = Reading(options.file)
    replayed = Replay(recording, all_registers=False)
    shown = None
    try:
        for line, op in played(recording, replayed, options.at):
            number = op.vcpu_number
            if number is not None and number in replayed.vcpus:
                shown = line, op, number, replayed.vcpus[number]
    except Difference as difference:
        raise UsageError(f"{recording.path}, {difference}; show works up to the line before") from None
    if shown is None:
        raise UsageError(
            f"{recording.path} has no vCPU up to {'its end' if options.at is None else f'line {options.at}'}"
        )
    line, op, number, vcpu = shown
    source = f"{recording.path.name} ({recording.header.abi.name})"
    print(f"vCPU {number} of {source} after line {line}, {op}")
    for text in describe(vcpu):
        print_styled(text, {r"\+[0-9a-f]+": "yellow", "~[0-9a-f]+": "dim"})
    return 0
