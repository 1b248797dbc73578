"""A recording's operations done on the model for their effects, in any revision: a stream of events for each vCPU.

What was recorded of an operation's outcome does not count; its outcome here is what the model says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import GuestUndefined, HostOops, KvmError
from ..facts import Abi
from ..machine import Run, Vcpu
from ..ops import Machine, Misuse, Observation, Operation, Step, attempt, observe_step
from ..ops import operations as ops
from ..recording import Recording, misuse_at
from ..state import Snapshot, canonical, take

GETS, SETS = (ops.Get, ops.GetShort), (ops.Set, ops.SetShort)


@dataclass(frozen=True)
class Event:
    """One call on a vCPU: what it was, how it ended, and what the vCPU held before and after.

    `data` is what a SET gives or a GET has got.
    """

    line: int
    op: Operation
    reg_id: int  # 0 for a call that has none
    register: int  # the same as snapshots have it
    data: bytes
    failure: KvmError | HostOops | None
    before: Snapshot
    after: Snapshot

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
        return bool(self.earlier) and isinstance(self.earlier[-1].op, ops.Run)

    @cached_property
    def gets(self) -> list[Event]:
        return [event for event in self.events if isinstance(event.op, GETS)]

    @cached_property
    def sets(self) -> list[Event]:
        """Those that no INIT has undone."""
        resets = [n for n, event in enumerate(self.events) if isinstance(event.op, ops.VcpuInit) and not event.failure]
        return [event for event in self.events[resets[-1] if resets else 0 :] if isinstance(event.op, SETS)]


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

    def _witness(self, line: int, op: Operation) -> None:
        """The operation is done, and kept if it was one on a vCPU."""
        if isinstance(op, ops.CreateVcpu):
            self._lives[op.vcpu] = _Life(op.vm, op.index)
        number = op.vcpu_number
        vcpu = None if number is None else self.vcpus.get(number)
        if vcpu is None or number is None or isinstance(op, ops.Close):
            self._do(op)
            return
        events = self._lives[number].events
        before = events[-1].after if events else take(vcpu, None)
        failure = self._do(op)
        after = before if isinstance(failure, HostOops) else self._after(op, vcpu, before)
        reg_id = op.reg_id if isinstance(op, ops.RegisterCall) else 0
        events.append(Event(line, op, reg_id, canonical(reg_id), self._data, failure, before, after))
        if isinstance(failure, HostOops):
            raise failure

    def _after(self, op: Operation, vcpu: Vcpu, before: Snapshot) -> Snapshot:
        """What the vCPU holds now; a GET changes the owner at the most, where it does not write its register."""
        only_looks = isinstance(op, ops.Get) and not self.may_write(op) and vcpu.fp_state is before.fp_state
        return before if only_looks else take(vcpu, before)

    def _do(self, op: Operation) -> KvmError | HostOops | None:
        """How the call ends; the bytes that it gives or has got are in `_data`."""
        seen = list(self.perform(op))
        match op:
            case ops.Get():
                value = seen[1].actual if len(seen) > 1 else b""
                self._data = value if isinstance(value, bytes) else b""
            case ops.Set():
                self._data = op.data
            case ops.GetShort() | ops.SetShort():
                self._data = op.buf
            case _:
                self._data = b""
        return _failure(seen[0]) if seen else None

    # Operations whose recorded outcome would decide how they end

    def reg_list(self, op: ops.RegList) -> list[Observation]:
        """A list that the recorded kernel gave is given here: its reader would have made more room."""
        return [attempt(op, self.vcpu(op.vcpu).get_reg_list, 0 if op.has_failed else None)[0]]

    def guest(self, run: Run, steps: Sequence[Step]) -> Iterator[Observation]:
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
    return result.why if isinstance(result.why, KvmError | HostOops) else None


def _cut(vcpu: int, events: list[Event]) -> Iterator[Stretch]:
    begin = 0
    runs = [n for n, event in enumerate(events) if isinstance(event.op, ops.Run) and not event.failure]
    for end in (*runs, len(events)):
        if begin < end:
            yield Stretch(vcpu, tuple(events[:begin]), tuple(events[begin:end]))
        begin = end + 1
