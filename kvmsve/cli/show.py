"""kvmsve show: a vCPU as it stands at a line of a recording."""

from __future__ import annotations

import argparse

from ..ops import Difference
from ..ops import describe as describe_op
from ..recording import Recording, Replay, played
from ..report import describe
from .common import UsageError


def run(options: argparse.Namespace) -> int:
    """The vCPU of the last operation up to the line is printed as it stands then."""
    recording = Recording(options.file)
    replayed = Replay(recording)
    shown = None
    try:
        for line, op in played(recording, replayed, options.at):
            if op.get("vcpu") in replayed.vcpus:
                shown = line, op, replayed.vcpus[op["vcpu"]]
    except Difference as difference:
        raise UsageError(f"{recording.path}, {difference}; show works up to the line before") from None
    if shown is None:
        raise UsageError(
            f"{recording.path} has no vCPU up to {'its end' if options.at is None else f'line {options.at}'}"
        )
    line, op, vcpu = shown
    source = f"{recording.path.name} ({recording.header.abi.name})"
    print(f"vCPU {op['vcpu']} of {source} after line {line}, {describe_op(op)}")
    print(*describe(vcpu), sep="\n")
    return 0
