"""kvmsve lint: what a recorded VMM loses or risks."""

from __future__ import annotations

import argparse
import textwrap

from ..lint import lint
from .recordings import Reading
from .terminal import print_styled

LINE_COLUMNS = 100


def run(options: argparse.Namespace) -> int:
    """What the recorded VMM loses or risks is printed, with the reason and the way out."""
    recording = Reading(options.file)
    revision = options.abi or recording.header.abi
    report = lint(recording, revision)
    for finding in report.findings:
        print_styled(f"line {finding.line}, vCPU {finding.vcpu}: {finding.rule.name}", {"[^ ]+$": "bold yellow"})
        for text in (finding.consequence, f"why: {finding.rule.why}", f"fix: {finding.rule.fix}"):
            filled = textwrap.fill(text, LINE_COLUMNS, initial_indent=" " * 4, subsequent_indent=" " * 8)
            print_styled(filled, {"(?s)(lost|not saved):.*": "red", "(why|fix):": "bold"})
    for transfer in report.transfers:
        print(textwrap.fill(str(transfer), LINE_COLUMNS, subsequent_indent=" " * 8))
    count = len(report.findings)
    print(f"{recording.path.name} under {revision.name}: {count} finding{'s' if count != 1 else ''}")
    return int(count > 0)
