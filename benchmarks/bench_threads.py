"""Two threads, each with what is its own, beside one thread that does the work of both: 2 is the best there can be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns

import numpy as np
from bench_vcpu import ZREG, finalized_vcpu
from measure import least, overall

import kvmsve
from kvmsve.facts.layout import sve_state_bytes

STATES = 1024  # of each thread
REPEATS = 10
THREADS = 2


def batch(thread: int) -> Callable[[], None]:
    """States of this thread, rewritten from vq 16 to vq 8 and back: nearly all of the time is in C."""
    large, small = (np.full((STATES, sve_state_bytes(vq)), thread, np.uint8) for vq in (16, 8))

    def work() -> None:
        for _ in range(REPEATS):
            kvmsve.rewrite(large, 8, 16, out=small)
            kvmsve.rewrite(small, 16, 8, out=large)

    return work


def copy(thread: int) -> Callable[[], None]:
    """What numpy does in C with as many bytes: how far this machine's two CPUs are two."""
    source, target = (
        np.full(STATES * (sve_state_bytes(16) + sve_state_bytes(8)) // 2, n, np.uint8) for n in (thread, 7)
    )

    def work() -> None:
        for _ in range(REPEATS):
            np.copyto(target, source)
            np.copyto(source, target)

    return work


def vcpu(_: int) -> Callable[[], None]:
    """A vCPU of this thread whose Z is set, converted for the guest's run, and read: nearly all is in Python."""
    mine = finalized_vcpu()

    def work() -> None:
        for _ in range(REPEATS):
            mine.set_one_reg(ZREG, bytes(256))
            with mine.run() as guest:
                guest.zcr = 1
                guest.z[3] = guest.z[4]
            mine.get_one_reg(ZREG)

    return work


def test_threads(report, benchmark):
    rows = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for name, make in {"kvmsve.rewrite": batch, "numpy copy": copy, "a vCPU's set, run and get": vcpu}.items():
            works = [make(thread) for thread in range(THREADS)]

            def one_after_the_other(works=works) -> float:
                start = perf_counter_ns()
                for work in works:
                    work()
                return perf_counter_ns() - start

            def at_once(works=works) -> float:
                start = perf_counter_ns()
                for done in [pool.submit(work) for work in works]:
                    done.result()
                return perf_counter_ns() - start

            times = overall(least({"one": one_after_the_other, "two": at_once}))
            rows[name] = [times["one"] / times["two"]]
    report.table("one thread / two threads", ["ratio"], rows, ".2f")
    benchmark.pedantic(batch(0), rounds=20)
