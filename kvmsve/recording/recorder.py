"""Recording of what a program does with a host: its VMs and vCPUs write down every call, so that it replays."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from operator import index
from types import TracebackType
from typing import Any

from msgspec.structs import replace

from ..errors import KvmError
from ..facts import TARGET_GENERIC_V8, Feature, FeatureSet, feature_words, regid
from ..machine import Host, Run, Vcpu, Vm
from ..ops import UNTOUCHED, Step, summarize
from ..ops import operations as ops
from ..state import held
from .file import write_recording
from .oplog import OperationLog, as_asked
from .recorded_guest import RecordedGuest

ROOM = 8192  # entries, where the caller of get_reg_list does not say


@contextmanager
def record(path: str | os.PathLike[str], host: Host, source: str = "kvmsve") -> Iterator[Recorder]:
    """`with record(path, host) as recorded:`, and what is done with it is in the file when the block ends well."""
    with write_recording(path, host, source) as writer:
        log = OperationLog(writer)
        yield Recorder(log, host)
        log.finish()


class Recorder:
    """A Host that is recorded."""

    def __init__(self, log: OperationLog, host: Host) -> None:
        self._log = log
        self._host = host
        self._vm_numbers = count()
        self._vcpu_numbers = count()

    def create_vm(self) -> RecordedVm:
        """As Host.create_vm."""
        vm = RecordedVm(self._log, self._host.create_vm(), next(self._vm_numbers), self._vcpu_numbers)
        self._log.write(ops.CreateVm(vm=vm.number, ret=0))
        return vm

    def check_extension(self, cap: int) -> int:
        """As Host.check_extension."""
        value = self._host.check_extension(cap)
        self._log.write(ops.CheckExtension(on="kvm", cap=cap, ret=value))
        return value

    def note(self, text: str) -> None:
        """The recording has a heading here."""
        self._log.write(ops.Note(text=text))


class RecordedVm:
    """A Vm that is recorded."""

    def __init__(self, log: OperationLog, vm: Vm, number: int, vcpu_numbers: Iterator[int]) -> None:
        self._log = log
        self._vm = vm
        self._vcpu_numbers = vcpu_numbers
        self.number = number

    @property
    def unrecorded(self) -> Vm:
        """The VM itself: what is asked of it is not written."""
        return self._vm

    def create_vcpu(self, index: int) -> RecordedVcpu:
        """As Vm.create_vcpu."""
        number = next(self._vcpu_numbers)
        op = ops.CreateVcpu(vm=self.number, vcpu=number, index=index)
        return RecordedVcpu(self._log, self._log.attempt(op, lambda: self._vm.create_vcpu(index)), number)

    def enable_cap(self, cap: int) -> None:
        """As Vm.enable_cap."""
        op = ops.EnableCap(vm=self.number, cap=cap)
        self._log.attempt(op, lambda: self._vm.enable_cap(cap))

    def check_extension(self, cap: int) -> int:
        """As Vm.check_extension."""
        value = self._vm.check_extension(cap)
        self._log.write(ops.CheckExtension(on="vm", cap=cap, ret=value))
        return value


class RecordedVcpu:
    """A Vcpu that is recorded; what only looks (sve_state, fp_state ...) is the Vcpu's own."""

    def __init__(self, log: OperationLog, vcpu: Vcpu, number: int) -> None:
        self._log = log
        self._vcpu = vcpu
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vcpu, name)

    @property
    def unrecorded(self) -> Vcpu:
        """The vCPU itself: what is done on it is not written."""
        return self._vcpu

    def fail_allocations(self, n: int = 1) -> None:
        """As Vcpu.fail_allocations."""
        self._vcpu.fail_allocations(n)
        self._log.write(ops.FailAllocations(vcpu=self._number, n=n))

    def look(self) -> None:
        """The recording says here what the kernel's memory holds of the vCPU."""
        self._log.write(ops.Held(vcpu=self._number, **held(self._vcpu)._asdict()))

    def init(self, features: FeatureSet, target: int = TARGET_GENERIC_V8) -> None:
        """As Vcpu.init."""
        words = feature_words(features, self._vcpu.abi)
        op = ops.VcpuInit(vcpu=self._number, target=int(index(target) != TARGET_GENERIC_V8), features=words)
        self._log.attempt(op, lambda: self._vcpu.init(features, target))

    def finalize(self, feature: Feature | int) -> None:
        """As Vcpu.finalize."""
        number = feature.bit(self._vcpu.abi) if isinstance(feature, Feature) else feature
        self._log.attempt(ops.Finalize(vcpu=self._number, feature=number), lambda: self._vcpu.finalize(feature))

    def get_one_reg(self, reg_id: int) -> bytes:
        """As Vcpu.get_one_reg."""
        reg_id = index(reg_id)
        if self._vcpu.is_written_by_get(reg_id):
            return self._write_by_get(reg_id, bytes(regid.size_bytes(reg_id)))
        op = ops.Get(vcpu=self._number, reg_id=reg_id)
        return self._log.attempt(
            op, lambda: self._vcpu.get_one_reg(reg_id), lambda asked, value: replace(asked, data=value)
        )

    def get_one_reg_into(self, reg_id: int, buffer: Any) -> None:
        """As Vcpu.get_one_reg_into."""
        reg_id = index(reg_id)
        target = memoryview(buffer).cast("B")
        if self._vcpu.is_written_by_get(reg_id):
            self._write_by_get(reg_id, target.tobytes())
        elif len(target) >= regid.size_bytes(reg_id):
            value = self.get_one_reg(reg_id)
            target[: len(value)] = value
        else:
            self._get_short(reg_id, target)

    def _get_short(self, reg_id: int, target: memoryview) -> None:
        untouched = bytes([UNTOUCHED]) * len(target)
        op = ops.GetShort(vcpu=self._number, reg_id=reg_id, avail=len(target), buf=untouched)

        def refused(asked: ops.GetShort, error: KvmError) -> ops.GetShort:
            if error.errno != errno.EFAULT:
                return asked
            filled = self._vcpu.fills_short_buffers(reg_id)
            return replace(asked, copied=len(target), buf=target.tobytes()) if filled else replace(asked, copied=0)

        self._log.attempt(op, lambda: self._vcpu.get_one_reg_into(reg_id, target), as_asked, refused)

    def _write_by_get(self, reg_id: int, data: bytes) -> bytes:
        """A GET that writes its register is recorded as the SET that it is."""
        self.set_one_reg(reg_id, data)
        return data

    def set_one_reg(self, reg_id: int, data: Any) -> None:
        """As Vcpu.set_one_reg."""
        reg_id = index(reg_id)
        raw, size = memoryview(data).tobytes(), regid.size_bytes(reg_id)
        short = ops.SetShort(vcpu=self._number, reg_id=reg_id, avail=len(raw), buf=raw)

        def refused(asked: ops.RegisterCall, error: KvmError) -> ops.RegisterCall:
            """A system register's SET fetches more than some IDs say."""
            return replace(short, copied=len(raw)) if error.errno == errno.EFAULT else asked

        op = short if len(raw) < size else ops.Set(vcpu=self._number, reg_id=reg_id, data=raw[:size])
        self._log.attempt(op, lambda: self._vcpu.set_one_reg(reg_id, raw), as_asked, refused)

    def get_reg_list(self, n: int | None = None) -> list[int]:
        """As Vcpu.get_reg_list."""
        op = ops.RegList(vcpu=self._number, n_in=ROOM if n is None else n)

        def succeeded(asked: ops.RegList, listed: list[int]) -> ops.RegList:
            listing = self._vcpu.listing
            kept = summarize(listed, with_sme=True)._asdict()
            return replace(asked, n_out=listing.n, **kept, unwritten=listing.unwritten)

        def refused(asked: ops.RegList, error: KvmError) -> ops.RegList:
            return replace(asked, n_out=asked.n_in if error.n is None else error.n)

        return self._log.attempt(op, lambda: self._vcpu.get_reg_list(n), succeeded, refused)

    def run(self, *, immediate_exit: bool = False) -> RecordedRun:
        """As Vcpu.run; the guest's steps are recorded too."""
        steps: list[Step] = []
        op = ops.Run(vcpu=self._number, immediate_exit=immediate_exit)
        run = self._log.begin_run(op, lambda: self._vcpu.run(immediate_exit=immediate_exit), steps)
        return RecordedRun(self._log, run, self._number, steps)


class RecordedRun:
    """A Run that is recorded."""

    def __init__(self, log: OperationLog, run: Run, vcpu: int, steps: list[Step]) -> None:
        self._log = log
        self._run = run
        self._vcpu = vcpu
        self._steps = steps

    def __enter__(self) -> RecordedGuest:
        return RecordedGuest(self._run.__enter__(), self._steps)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)
        self._log.end_run(self._vcpu)
