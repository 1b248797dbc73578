"""kvmsve.rewrite of many states, beside a numpy copy that moves as many bytes: batch_process.py says what that is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import batch_process
import numpy as np
import pytest
from measure import PARTS, least, mean, overall

import kvmsve
from kvmsve.facts.layout import sve_state_bytes

STATES = 4096
PAIRS = batch_process.PAIRS


def ratios_in_a_new_process(count: int) -> dict[tuple[int, int], tuple[float, float]]:
    command = [sys.executable, batch_process.__file__, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return dict(zip(PAIRS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("count", [1024, 16384])
def test_beside_a_copy(report, benchmark, count):
    runs = [ratios_in_a_new_process(count) for _ in range(PARTS)]
    for what, pairs in {
        "widened": [(src, dst) for src, dst in PAIRS if src < dst],
        "narrowed": [(src, dst) for src, dst in PAIRS if src > dst],
    }.items():
        report.figure(f"{what}, {count}", [mean(run[pair][0] for pair in pairs) for run in runs])
    rows = {}
    for place, name in enumerate(["bytes read and written", "bytes that are kept"]):
        for choose in (min, median, max):
            rows[f"{name}, {choose.__name__}"] = [choose(run[pair][place] for run in runs) for pair in PAIRS]
    report.table(f"{count} states / copy of the", [f"vq {src} to {dst}" for src, dst in PAIRS], rows, ".2f")
    states = np.ones((count, sve_state_bytes(4)), np.uint8)
    out = kvmsve.rewrite(states, 8, 4)
    benchmark.pedantic(kvmsve.rewrite, (states, 8, 4), {"out": out}, rounds=20)


def timed(function, *args, **options):
    def timer() -> float:
        start = perf_counter_ns()
        function(*args, **options)
        return (perf_counter_ns() - start) / 1e6

    return timer


def test_threads_and_new_memory(report, benchmark):
    timers = {}
    src, dst = (np.ones(STATES * sve_state_bytes(16), np.uint8) for _ in range(2))
    for src_vq, dst_vq in PAIRS:
        states, out = (
            array[: STATES * sve_state_bytes(vq)].reshape(STATES, -1) for array, vq in ((src, src_vq), (dst, dst_vq))
        )
        half = (states.size + out.size) // 2
        timers |= {
            ("numpy copy", src_vq, dst_vq): timed(np.copyto, dst[:half], src[:half]),
            ("kvmsve.rewrite", src_vq, dst_vq): timed(kvmsve.rewrite, states, dst_vq, src_vq, out=out),
            ("two threads", src_vq, dst_vq): timed(kvmsve.rewrite, states, dst_vq, src_vq, out=out, threads=2),
            ("into new memory", src_vq, dst_vq): timed(kvmsve.rewrite, states, dst_vq, src_vq),
            ("numpy copy into new memory", src_vq, dst_vq): timed(np.array, src[:half]),
        }
    parts = least(timers)
    report.figure(
        "threads",
        [mean(ms["kvmsve.rewrite", *pair] / ms["two threads", *pair] for pair in PAIRS) for ms in parts],
    )
    rows: dict[str, list[float]] = {}
    for (name, *_), ms in overall(parts).items():
        rows.setdefault(name, []).append(ms)
    report.table(f"{STATES} states, ms", [f"vq {src} to {dst}" for src, dst in PAIRS], rows, ".2f")
    benchmark.pedantic(kvmsve.rewrite, (states, dst_vq, src_vq), {"out": out}, rounds=20)
