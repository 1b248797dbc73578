"""The package and its models do the same random programs, and everything is compared after every step."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from programs import OPERATIONS, Pair
from twin import Twin

STEPS = 300  # of one program of the long driver
SEEDS = st.integers(0, 2**32 - 1)


class Machine(RuleBasedStateMachine):
    """Programs that Hypothesis draws, and shortens when they fail. A host that crashed is replaced."""

    @initialize(seed=SEEDS)
    def start(self, seed: int) -> None:
        self.pair = Pair(random.Random(seed))

    @rule(n=st.integers(0, 2), operation=st.sampled_from(OPERATIONS), seed=SEEDS)
    def step(self, n: int, operation: Callable[[Twin, random.Random], None], seed: int) -> None:
        if self.pair.oopsed:
            self.pair = Pair(random.Random(seed))
        operation(self.pair.twins[n % len(self.pair.twins)], random.Random(seed))

    @invariant()
    def same(self) -> None:
        if not self.pair.oopsed:
            for twin in self.pair.twins:
                twin.compare()
                twin.list()


def drive(seed: int) -> None:
    """The program of one seed; a difference is reported with the seed and the step."""
    rng = random.Random(seed)
    pair = Pair(rng)
    for step in range(STEPS):
        try:
            if pair.oopsed:
                pair = Pair(rng)
            touched = pair.step(rng)
            for twin in [] if pair.oopsed else pair.twins if step % 50 == 0 else [touched]:
                twin.compare()
        except AssertionError as difference:
            raise AssertionError(f"seed {seed}, step {step}: {difference}") from None


def test_programs_of_known_seeds() -> None:
    for seed in range(500):
        drive(seed)


def test_programs_that_hypothesis_draws() -> None:
    profile = settings(
        max_examples=600, stateful_step_count=40, phases=[Phase.generate, Phase.shrink], deadline=None,
        derandomize=True, database=None, report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=profile)


@pytest.mark.long
def test_many_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """KVMSVE_LONG_STEPS steps (a million), from the seed KVMSVE_LONG_SEED (that of a report) or a new one."""
    wanted = int(os.environ.get("KVMSVE_LONG_STEPS", 1_000_000))
    first = int(os.environ.get("KVMSVE_LONG_SEED", random.SystemRandom().getrandbits(32)))
    start = reported = time.monotonic()
    for done in count():
        now = time.monotonic()
        if now - reported > 10 or done * STEPS >= wanted:
            reported = now
            with capsys.disabled():
                print(
                    f"\n{done * STEPS} steps from seed {first}, {done * STEPS / (now - start):.0f} a second", flush=True
                )
        if done * STEPS >= wanted:
            return
        drive(first + done)
