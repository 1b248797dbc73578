"""The package and its models do the same random programs, and everything is compared after every step."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from driver import Play, Step, check, report, set_up
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from programs import OPERATIONS, run
from twin import Twin

DIRECTORY = Path(tempfile.gettempdir())  # where recordings of differences stay
SEEDS = st.integers(0, 2**32 - 1)


class Machine(RuleBasedStateMachine):
    """Programs that Hypothesis draws, and shortens when they fail. A host that crashed is replaced."""

    play: ClassVar[Play]  # the last one

    @initialize(seed=SEEDS)
    def start(self, seed: int) -> None:
        Machine.play = Play(seed)
        for step in set_up(random.Random(seed)):
            self.take(step)

    @rule(vcpu=st.integers(0, 2), operation=st.sampled_from(OPERATIONS), seed=SEEDS, length=st.integers(0, 11))
    def step(self, vcpu: int, operation: Callable[..., None], seed: int, length: int) -> None:
        self.take(Step(vcpu, operation, seed, tuple(range(seed, seed + length)) if operation is run else ()))

    def take(self, step: Step) -> None:
        if self.play.is_over:
            Machine.play = Play(step.seed)
        self.play.take(step)

    @invariant()
    def same(self) -> None:
        self.play.compare()


WAYS = {  # in which calls and guest steps end
    "init": ("", "EINVAL", "ENOENT"),
    "finalize": ("", "EINVAL", "EPERM", "ENOEXEC", "ENOMEM", "EIO"),
    "get": ("", "EINVAL", "ENOENT", "EPERM", "EBUSY", "ENOEXEC", "oops"),
    "set": ("", "EINVAL", "ENOENT", "EPERM", "EBUSY", "ENOEXEC", "EFAULT"),
    "reg_list": ("", "E2BIG", "EPERM", "ENOEXEC"),
    "run": ("", "EINTR", "EPERM", "ENOEXEC", "oops"),
    "fail_allocations": ("",),
    **dict.fromkeys(("z", "p", "ffr", "za", "zt0"), ("", "undefined", "wrong size")),
    **dict.fromkeys(("vl", "svl", "svcr", "zcr", "smcr", "smstart", "smstop", "fpmr"), ("", "undefined")),
    **dict.fromkeys(("smidr", "smpri", "tpidr2"), ("", "undefined")),
    **dict.fromkeys(("v", "fpsr", "fpcr", "cpacr", "narrow"), ("",)),
}


def test_programs_of_known_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end in all these ways."""
    both, seen = Twin.both, set()

    def watched(twin: Twin, what: tuple[Any, ...], *calls: Callable[[], Any]) -> Any:
        end = both(twin, what, *calls)
        if isinstance(end, tuple) and end[:1] == ("errno",):
            end = errno.errorcode[end[1]]
        seen.add((what[0], end if isinstance(end, str) else ""))
        return end

    monkeypatch.setattr(Twin, "both", watched)
    for seed in range(220):
        check(seed, DIRECTORY)
    assert [(call, end) for call, ends in WAYS.items() for end in ends if (call, end) not in seen] == []


def test_programs_that_hypothesis_draws() -> None:
    profile = settings(
        max_examples=220, stateful_step_count=40, phases=[Phase.generate, Phase.shrink], deadline=None,
        derandomize=True, database=None, report_multiple_bugs=False,
    )  # fmt: skip
    try:
        run_state_machine_as_test(Machine, settings=profile)
    except Exception as difference:
        pytest.fail(report(Machine.play.program, DIRECTORY, difference), pytrace=False)


@pytest.mark.long
def test_many_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """KVMSVE_LONG_STEPS steps (ten million) in KVMSVE_LONG_PROCESSES (as many as there are CPUs).

    They begin at the seed KVMSVE_LONG_SEED, or a new one.
    """
    wanted = int(os.environ.get("KVMSVE_LONG_STEPS", 10_000_000))
    processes = int(os.environ.get("KVMSVE_LONG_PROCESSES", len(os.sched_getaffinity(0))))
    seed = int(os.environ.get("KVMSVE_LONG_SEED", random.SystemRandom().getrandbits(32)))
    done, start, batch = 0, time.monotonic(), 100 * processes
    with ProcessPoolExecutor(processes) as pool, capsys.disabled():
        print(f"\n{wanted} steps from seed {seed}, {processes} at a time", flush=True)
        while done < wanted:
            done += sum(pool.map(partial(check, directory=DIRECTORY), range(seed, seed + batch), chunksize=5))
            seed += batch
            print(progress(done, wanted, time.monotonic() - start), flush=True)


def progress(done: int, wanted: int, seconds: float) -> str:
    """How far it is, how fast, and how long it will take."""
    left = round(max(0, wanted - done) * seconds / done)
    return f"{done} steps, {100 * done / wanted:.1f} %, {done / seconds:.0f} a second, {left // 60}:{left % 60:02} left"
