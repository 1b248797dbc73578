"""Programs for the package and a model: drawn from seeds, done, cut down where they show a difference, and recorded.

A program is data: a seed for the host, and steps that each have their own seeds, so that it stays one without some of
its steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from model_host import ModelHost
from programs import OPERATIONS, Pair, finalize, init, run, set_id, set_vls, some_host
from twin import Twin

from kvmsve import Host
from kvmsve.facts.revisions import REVISIONS
from kvmsve.recording.file import write_recording
from kvmsve.recording.oplog import OperationLog
from kvmsve.recording.recorder import Recorder

LENGTH = 300  # steps of a drawn program, at the most, after those that set it up
Item = TypeVar("Item")


class Step(NamedTuple):
    """One operation of a vCPU; what it draws comes from `seed`, what its guest does, if it is a run, from `guest`."""

    vcpu: int
    operation: Callable[..., None]
    seed: int
    guest: tuple[int, ...] = ()

    def take(self, twin: Twin) -> None:
        rng = random.Random(self.seed)
        if self.operation is run:
            run(twin, rng, self.guest)
        else:
            self.operation(twin, rng)


class Program(NamedTuple):
    """A host and a VM, both from one seed, and what is done with its vCPUs; it ends early where the host crashes."""

    seed: int
    steps: tuple[Step, ...]


def drawn(seed: int) -> Program:
    """The program of a seed."""
    rng = random.Random(seed)
    return Program(seed, (*set_up(rng), *(some_step(rng) for _ in range(LENGTH))))


def set_up(rng: random.Random) -> tuple[Step, ...]:
    """Most vCPUs are finalized, with lengths and ID registers that userspace has chosen."""
    steps = []
    for vcpu in range(3):
        if rng.random() < 0.9:
            operations = (init, set_vls, set_vls, *[set_id] * rng.randrange(3), finalize)
            steps += [Step(vcpu, operation, rng.getrandbits(32)) for operation in operations]
    return tuple(steps)


def some_step(rng: random.Random) -> Step:
    operation = rng.choice(OPERATIONS)
    guest = tuple(rng.getrandbits(32) for _ in range(rng.randrange(12))) if operation is run else ()
    return Step(rng.randrange(3), operation, rng.getrandbits(32), guest)


class Play:
    """A program as it is being done: all sides of its host, and its steps so far."""

    def __init__(self, seed: int, package: Callable[[Host, Any], Any] = lambda host, other: host) -> None:
        """`package` may put something in the place of the package's host."""
        rng = random.Random(seed)
        host, other = some_host(rng)
        self.seed = seed
        self.steps: list[Step] = []
        self.pair = Pair(rng, package(host, other), other)

    @property
    def program(self) -> Program:
        return Program(self.seed, tuple(self.steps))

    @property
    def is_over(self) -> bool:
        return self.pair.oopsed

    def take(self, step: Step) -> None:
        """The step is done, and has left the same everywhere."""
        self.steps.append(step)
        twins = self.pair.twins
        twin = twins[step.vcpu % len(twins)]
        step.take(twin)
        if not self.is_over:
            for each in twins if len(self.steps) % 50 == 0 else [twin]:
                each.compare()

    def compare(self) -> None:
        """All vCPUs, also their lists, are the same everywhere."""
        for twin in [] if self.is_over else self.pair.twins:
            twin.compare()
            twin.list()


def play(program: Program) -> Play:
    """The program has been done, and nothing differed."""
    done = Play(program.seed)
    for step in program.steps:
        done.take(step)
        if done.is_over:
            return done
    done.compare()
    return done


def differs(program: Program) -> bool:
    try:
        play(program)
    except Exception:  # whatever a mistake in the package leads to
        return True
    return False


def check(seed: int, directory: Path) -> int:
    """The number of steps done of the program of a seed; AssertionError with a file where something differs."""
    program = drawn(seed)
    try:
        return len(play(program).steps)
    except Exception as difference:
        raise AssertionError(report(program, directory, difference)) from None


def report(program: Program, directory: Path, difference: Exception) -> str:
    """What is said of a program that shows a difference, which is in a file when this returns."""
    small = shrunk(program)
    path = record(small, directory / f"kvmsve-differs-{small.seed}.jsonl")
    return (
        f"{difference}\nprogram {program.seed}, cut to {len(small.steps)} steps, is recorded as the model has it: "
        f"`kvmsve replay {path}` shows the difference"
    )


def shrunk(program: Program) -> Program:
    """A program that still shows a difference, without the steps, also of guests, that this does not need."""
    program = program._replace(steps=shortest(program.steps, lambda kept: differs(program._replace(steps=kept))))
    for n, step in enumerate(program.steps):
        guest = shortest(step.guest, lambda kept, n=n, was=program: differs(with_guest(was, n, kept)))
        program = with_guest(program, n, guest)
    return program


def with_guest(program: Program, n: int, guest: tuple[int, ...]) -> Program:
    """The program whose step n has this guest."""
    return program._replace(steps=(*program.steps[:n], program.steps[n]._replace(guest=guest), *program.steps[n + 1 :]))


def shortest(items: tuple[Item, ...], fails: Callable[[tuple[Item, ...]], bool]) -> tuple[Item, ...]:
    """What is left when every block of items is gone without which it still fails; blocks halve from all to one."""
    size = len(items)
    while size:
        start = 0
        while start < len(items):
            without = items[:start] + items[start + size :]
            if fails(without):
                items = without
            else:
                start += size
        size //= 2
    return items


def record(program: Program, path: Path) -> Path:
    """A recording of the program with the model's outcomes, and at its end all that the model holds."""
    _, other = some_host(random.Random(program.seed))
    described = Host(
        abi=REVISIONS[other.revision], sve_vqs=other.vqs[0], sme_vqs=other.vqs[1], sme2=other.sme2, fa64=other.fa64,
        fpmr=other.fpmr, big_endian=other.byteorder == "big", id_regs=other.id_regs,
        features_offered=other.features_offered,
    )  # fmt: skip
    with write_recording(path, described, f"tests/driver.py, program {program.seed}") as writer:
        log = OperationLog(writer)
        _do_again(program, Recorder(log, ModelHost(other)))
        log.finish()
    return path


def _do_again(program: Program, recorder: Recorder) -> None:
    done = Play(program.seed, lambda *_: recorder)
    for step in program.steps:
        done.take(step)
        if done.is_over:
            return
    done.compare()
    for twin in done.pair.twins:
        twin.vcpu.look()
