"""A recording's operations done on the model for their effects, in any revision: a stream of events for each vCPU.

What was recorded of an operation's outcome does not count; its outcome here is what the model says.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import GuestUndefined, HostOops, KvmError
from ..facts import Abi
from ..machine import Run
from ..ops import CRASH, Machine, Misuse, Observation, attempt, observe_step
from ..recording import Op, Recording, misuse_at
from ..state import Snapshot, canonical, take


@dataclass(frozen=True)
class Event:
    """One call on a vCPU: what it was, how it ended, and what the vCPU held before and after.

    `op` is the format's word (a short buffer's get and set are "get" and "set"), `data` what a set gives or a get has
    got.
    """

    line: int
    op: str
    reg_id: int
    data: bytes
    failure: KvmError | HostOops | None
    before: Snapshot
    after: Snapshot

    @property
    def register(self) -> int:
        """The register's ID as snapshots have it."""
        return canonical(self.reg_id)

    def is_refused(self, *errnos: int) -> bool:
        """Whether the call ended in one of these."""
        return isinstance(self.failure, KvmError) and self.failure.errno in errnos


@dataclass(frozen=True)
class Stretch:
    """What a VMM does with one vCPU between two runs of its guest, or before the first or after the last.

    `earlier` is all that it did with the vCPU before; `source` is the last stretch after a run that a vCPU of the same
    index in another VM had before this one's first: what a VMM would save to restore it here.
    """

    vcpu: int
    earlier: tuple[Event, ...]
    events: tuple[Event, ...]
    source: Stretch | None = None

    @property
    def abi(self) -> Abi:
        return self.start.abi

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.events[0].line

    @property
    def start(self) -> Snapshot:
        return self.events[0].before

    @property
    def end(self) -> Snapshot:
        return self.events[-1].after

    @property
    def follows_a_run(self) -> bool:
        return bool(self.earlier) and self.earlier[-1].op == "run"

    @cached_property
    def gets(self) -> list[Event]:
        return [event for event in self.events if event.op == "get"]

    @cached_property
    def sets(self) -> list[Event]:
        """Those that no INIT has undone."""
        resets = [n for n, event in enumerate(self.events) if event.op == "vcpu_init" and not event.failure]
        return [event for event in self.events[resets[-1] if resets else 0 :] if event.op == "set"]


@dataclass
class _Life:
    """One vCPU of the recording: where it is, and what was done with it."""

    vm: int
    index: int
    events: list[Event] = field(default_factory=list)


class Rehearsal(Machine):
    """A model of the recorded host with a kernel of some revision, and all that happens to its vCPUs."""

    def __init__(self, recording: Recording, revision: Abi) -> None:
        """RecordingError where the host cannot be, or an operation names what the recording has not made."""
        header = recording.header.under(revision)
        super().__init__(header.create_host(), header.unlisted)
        self._lives: dict[int, _Life] = {}
        self._data = b""
        for line, op in recording:
            try:
                with misuse_at(recording.path, line):
                    self._witness(line, op)
            except HostOops:
                return

    def stretches(self) -> Iterator[Stretch]:
        """Each vCPU's life cut at the runs of its guest."""
        cut = {number: list(_cut(number, life.events)) for number, life in self._lives.items()}
        for number, stretches in cut.items():
            older = [
                stretch
                for other, others in cut.items()
                for stretch in others
                if stretch.follows_a_run and self._continues(number, other) and stretch.line < stretches[0].line
            ]
            source = max(older, key=lambda stretch: stretch.line, default=None)
            for stretch in stretches:
                yield stretch if stretch.earlier else replace(stretch, source=source)

    def _continues(self, number: int, other: int) -> bool:
        """The two vCPUs have the same index in different VMs."""
        one, two = self._lives[number], self._lives[other]
        return one.index == two.index and one.vm != two.vm

    def _witness(self, line: int, op: Op) -> None:
        """The operation is done, and kept if it was one on a vCPU."""
        if op["op"] == "create_vcpu":
            self._lives[op["vcpu"]] = _Life(op["vm"], op["index"])
        vcpu = self.vcpus.get(op.get("vcpu", -1))
        if vcpu is None or op["op"] == "close":
            self._do(op)
            return
        events = self._lives[op["vcpu"]].events
        before = events[-1].after if events else take(vcpu, None)
        failure = self._do(op)
        after = before if isinstance(failure, HostOops) else take(vcpu, before)
        reg_id = int(op.get("id", "0"), 16)
        data = self._data if op["op"] == "get" else bytes.fromhex(op.get("data") or op.get("buf", ""))
        events.append(Event(line, op["op"].removesuffix("_short"), reg_id, data, failure, before, after))
        if isinstance(failure, HostOops):
            raise failure

    def _do(self, op: Op) -> KvmError | HostOops | None:
        seen = list(self.perform(op))
        value = seen[1].actual if op["op"] == "get" and len(seen) > 1 else b""
        self._data = value if isinstance(value, bytes) else b""
        return _failure(seen[0]) if seen else None

    # Operations whose recorded outcome would decide how they end

    def _reg_list(self, op: Op) -> Iterator[Observation]:
        """A list that the recorded kernel gave is given here: its reader would have made more room."""
        yield attempt(op, self._vcpu(op).get_reg_list, 0 if "errno" in op else None)[0]

    def _guest(self, run: Run, steps: list[Op]) -> Iterator[Observation]:
        """The guest takes the steps, but for those that are UNDEFINED for it."""
        with run as guest:
            for position, step in enumerate(steps):
                try:
                    yield from observe_step(guest, step)
                except GuestUndefined:
                    continue
                except (ValueError, IndexError) as error:
                    raise Misuse(f"guest step {position}: {error}") from None


def _failure(result: Observation) -> KvmError | HostOops | None:
    """What a call ended in, if not in success."""
    if result.actual == CRASH:
        return HostOops(result.why)
    number = getattr(errno, str(result.actual), None)
    return None if number is None else KvmError(number, result.why)


def _cut(vcpu: int, events: list[Event]) -> Iterator[Stretch]:
    begin = 0
    runs = [n for n, event in enumerate(events) if event.op == "run" and not event.failure]
    for end in (*runs, len(events)):
        if begin < end:
            yield Stretch(vcpu, tuple(events[:begin]), tuple(events[begin:end]))
        begin = end + 1
