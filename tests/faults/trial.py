"""Trials: one fault in one scratch copy, and what the default test run makes of it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from .entries import Fault
from .scratch import BrokenCopy, make_faulty_copy, run_pytest

FAILED = (1, 2)  # pytest's exit codes for a test that failed, and for one that could not be collected
PASSED = (0, 5)  # and where all passed, or there was none


class Outcome(Enum):
    """What became of a fault; the value is the word of the report."""

    CAUGHT = "caught"
    ESCAPED = "ESCAPED"
    TIMED_OUT = "TIMED OUT"  # whether the tests notice it is not known
    BAD = "BAD"  # no fault to be caught by a test: it does not build, or nothing can be imported


class Verdict(NamedTuple):
    """What became of a fault and why; `witness` is what pytest has to be given to do the failing tests again."""

    fault: Fault
    outcome: Outcome
    why: str
    seconds: float
    witness: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.outcome.value:9} {self.fault} [{self.why}, {self.seconds:.1f} s]"


async def try_faults(faults: Sequence[Fault], clean: Path, jobs: int, limit_seconds: float) -> AsyncIterator[Verdict]:
    """The verdict on each fault, in the order in which they are found; at most `jobs` are tried at a time."""
    free = asyncio.Semaphore(jobs)

    async def try_when_free(fault: Fault) -> Verdict:
        async with free:
            return await try_fault(fault, clean, limit_seconds)

    for verdict in asyncio.as_completed([asyncio.create_task(try_when_free(fault)) for fault in faults]):
        yield await verdict


async def try_fault(fault: Fault, clean: Path, limit_seconds: float) -> Verdict:
    """The fault in a copy of the clean copy, tested until something fails; the limit is that of the tests."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kvmsve-fault-") as place:
        copy = Path(place) / "kvmsve"
        try:
            await make_faulty_copy(clean, copy, fault)
            async with asyncio.timeout(limit_seconds):
                outcome, why, witness = await _test(copy, fault)
        except TimeoutError:
            outcome, why, witness = Outcome.TIMED_OUT, f"the tests did not end in {limit_seconds:.0f} s", ()
        except BrokenCopy as broken:
            outcome, why, witness = Outcome.BAD, str(broken), ()
    return Verdict(fault, outcome, why, time.monotonic() - start, witness)


async def _test(copy: Path, fault: Fault) -> tuple[Outcome, str, tuple[str, ...]]:
    """`pytest -x` in two runs that together are the default one: the likely files, then all others."""
    likely = [f"tests/{name}" for name in fault.tests if (copy / "tests" / name).exists()]
    others = [f"--ignore={name}" for name in likely]
    for arguments in (likely, others) if likely else ([],):
        run = await run_pytest(copy, "-x", *arguments)
        if run.code < 0:
            return Outcome.CAUGHT, f"signal {-run.code}", tuple(arguments)
        if run.code in FAILED and run.failed:
            return Outcome.CAUGHT, run.failed[0], (run.failed[0],)
        if run.code not in PASSED:
            return Outcome.BAD, f"pytest ends with {run.code}: {run.output.strip()[-200:]}", ()
    return Outcome.ESCAPED, "all tests pass", ()


async def failing_without(verdicts: Sequence[Verdict], clean: Path) -> set[str]:
    """The tests that caught a fault but fail on the clean copy too, so that they have caught nothing."""
    witnesses = sorted({name for verdict in verdicts for name in verdict.witness})
    if not witnesses:
        return set()
    run = await run_pytest(clean, *witnesses)
    return {*run.failed} if run.code in (*PASSED, *FAILED) else {*witnesses}
