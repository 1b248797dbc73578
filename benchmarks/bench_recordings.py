"""What a replay and a lint cost beside reading the same lines with lzma and json.loads alone."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from measure import least

from kvmsve.lint import lint
from kvmsve.recording import Recording, Replay

RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"
OPERATIONS = 100_000
ROUNDS = 10


def recordings_of(operations: int) -> list[Path]:
    """Recordings of real kernels, the longest first, that have so many operations together."""
    found, count = [], 0
    for path in sorted(RECORDINGS.glob("*.xz"), key=lambda path: -path.stat().st_size):
        found.append(path)
        with lzma.open(path) as lines:
            count += sum(1 for _ in lines) - 1
        if count >= operations:
            break
    return found


def read(paths: list[Path]) -> None:
    for path in paths:
        with lzma.open(path) as lines:
            for line in lines:
                json.loads(line)


def replay(paths: list[Path]) -> None:
    for path in paths:
        recording = Recording(path)
        replayed = Replay(recording)
        for line, operation in recording:
            replayed.play(line, operation)


def lint_all(paths: list[Path]) -> None:
    for path in paths:
        recording = Recording(path)
        lint(recording, recording.header.abi)


def seconds_of(work: Callable[[list[Path]], None], paths: list[Path]) -> Callable[[], float]:
    def timed() -> float:
        start = perf_counter()
        work(paths)
        return perf_counter() - start

    return timed


def test_replay(report, benchmark):
    paths = recordings_of(OPERATIONS)
    parts = least({"read": seconds_of(read, paths), "replay": seconds_of(replay, paths)}, rounds=ROUNDS)
    report.figure("replay", [seconds["replay"] / seconds["read"] for seconds in parts])
    benchmark.pedantic(replay, (paths,), rounds=1)


def test_lint(report, benchmark):
    paths = sorted((RECORDINGS / "vmm").iterdir())
    parts = least({"read": seconds_of(read, paths), "lint": seconds_of(lint_all, paths)}, rounds=ROUNDS)
    report.figure("lint", [seconds["lint"] / seconds["read"] for seconds in parts])
    benchmark.pedantic(lint_all, (paths,), rounds=1)
