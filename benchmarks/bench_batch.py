"""kvmsve.rewrite of many states, beside a numpy copy that moves as many bytes."""

from __future__ import annotations

from time import perf_counter_ns

import numpy as np
from measure import least, mean

import kvmsve
from kvmsve.facts.layout import sve_state_bytes

STATES = 4096
PAIRS = [(4, 16), (16, 4), (8, 16), (16, 8), (4, 8), (8, 4)]


def timed(function, *args, **options):
    def timer() -> float:
        start = perf_counter_ns()
        function(*args, **options)
        return (perf_counter_ns() - start) / 1e6

    return timer


def test_batch(report, benchmark):
    """Bytes moved are bytes read and bytes written; a copy of half as many reads and writes the same number."""
    rows = {}
    src, dst = (np.ones(STATES * sve_state_bytes(16), np.uint8) for _ in range(2))
    for src_vq, dst_vq in PAIRS:
        states, out = (
            array[: STATES * sve_state_bytes(vq)].reshape(STATES, -1) for array, vq in ((src, src_vq), (dst, dst_vq))
        )
        half = (states.size + out.size) // 2
        timers = {
            "numpy copy": timed(np.copyto, dst[:half], src[:half]),
            "kvmsve.rewrite": timed(kvmsve.rewrite, states, dst_vq, src_vq, out=out),
            "two threads": timed(kvmsve.rewrite, states, dst_vq, src_vq, out=out, threads=2),
            "into new memory": timed(kvmsve.rewrite, states, dst_vq, src_vq),
            "numpy copy into new memory": timed(np.array, src[:half]),
        }
        for name, ms in least(timers).items():
            rows.setdefault(name, []).append(ms)
    one, two, copy = rows["kvmsve.rewrite"], rows["two threads"], rows["numpy copy"]
    report.figure("batch", mean(ours / theirs for ours, theirs in zip(one, copy, strict=True)))
    report.figure("threads", mean(slow / fast for slow, fast in zip(one, two, strict=True)))
    report.table(f"{STATES} states, ms", [f"vq {src} to {dst}" for src, dst in PAIRS], rows, ".2f")
    benchmark.pedantic(kvmsve.rewrite, (states, dst_vq, src_vq), {"out": out}, rounds=20)
