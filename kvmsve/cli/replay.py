"""kvmsve replay: recordings done again on the model."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..ops import Difference
from ..ops import operations as ops
from ..recording import RecordingError, Replay, played, shipped_recordings
from .common import complain
from .recordings import Reading


def run(options: argparse.Namespace) -> int:
    """Every file is replayed and reported in one line; the worst outcome is the exit code."""
    return max(_replay_file(path, options.all_registers) for path in options.files or shipped_recordings())


def _replay_file(path: Path, all_registers: bool) -> int:
    try:
        recording = Reading(path)
        replayed = Replay(recording, all_registers=all_registers)
        count = sum(not isinstance(op, ops.Heading) for _, op in played(recording, replayed))
    except RecordingError as error:
        complain(str(error))
        return 2
    except Difference as difference:
        print(f"DIFFERS  {recording.header.abi.name:14} {path.name}")
        print(f"  {path}, {difference}")
        return 1
    print(f"ok       {recording.header.abi.name:14} {count:6} operations  {path.name}")
    if replayed.beside:
        print(f"  but {replayed.beside} on registers that say nothing of vectors end otherwise; --all-registers tells")
    return 0
