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

from ..errors import KvmError
from ..facts import TARGET_GENERIC_V8, Feature, FeatureSet, feature_words, regid
from ..machine import Host, Run, Vcpu, Vm
from ..ops import UNTOUCHED, summarize
from ..state import held
from .file import write_recording
from .oplog import OperationLog
from .recorded_guest import RecordedGuest
from .schema import Op


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
        self._log.write({"op": "create_vm", "vm": vm.number, "ret": 0})
        return vm

    def check_extension(self, cap: int) -> int:
        """As Host.check_extension."""
        value = self._host.check_extension(cap)
        self._log.write({"op": "check_extension", "on": "kvm", "cap": cap, "ret": value})
        return value

    def note(self, text: str) -> None:
        """The recording has a heading here."""
        self._log.write({"op": "note", "text": text})


class RecordedVm:
    """A Vm that is recorded."""

    def __init__(self, log: OperationLog, vm: Vm, number: int, vcpu_numbers: Iterator[int]) -> None:
        self._log = log
        self._vm = vm
        self._vcpu_numbers = vcpu_numbers
        self.number = number

    def create_vcpu(self, index: int) -> RecordedVcpu:
        """As Vm.create_vcpu."""
        number = next(self._vcpu_numbers)
        op = {"op": "create_vcpu", "vm": self.number, "vcpu": number, "index": index}
        return RecordedVcpu(self._log, self._log.attempt(op, lambda: self._vm.create_vcpu(index)), number)

    def enable_cap(self, cap: int) -> None:
        """As Vm.enable_cap."""
        op = {"op": "enable_cap", "vm": self.number, "cap": cap}
        self._log.attempt(op, lambda: self._vm.enable_cap(cap))

    def check_extension(self, cap: int) -> int:
        """As Vm.check_extension."""
        value = self._vm.check_extension(cap)
        self._log.write({"op": "check_extension", "on": "vm", "cap": cap, "ret": value})
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
        self._log.write(self._op("fail_allocations", n=n))

    def look(self) -> None:
        """The recording says here what the kernel's memory holds of the vCPU."""
        found = held(self._vcpu)
        values = {what: value.hex() if isinstance(value, bytes) else value for what, value in found.items()}
        self._log.write(self._op("held", **values))

    def init(self, features: FeatureSet, target: int = TARGET_GENERIC_V8) -> None:
        """As Vcpu.init."""
        op = self._op(
            "vcpu_init",
            target=int(index(target) != TARGET_GENERIC_V8),
            features=feature_words(features, self._vcpu.abi),
        )
        self._log.attempt(op, lambda: self._vcpu.init(features, target))

    def finalize(self, feature: Feature | int) -> None:
        """As Vcpu.finalize."""
        number = feature.bit(self._vcpu.abi) if isinstance(feature, Feature) else feature
        self._log.attempt(self._op("finalize", feature=number), lambda: self._vcpu.finalize(feature))

    def get_one_reg(self, reg_id: int) -> bytes:
        """As Vcpu.get_one_reg."""
        reg_id = index(reg_id)
        if self._vcpu.is_written_by_get(reg_id):
            return self._write_by_get(reg_id, bytes(regid.size_bytes(reg_id)))
        op = self._op("get", id=f"{reg_id:016x}")

        def get() -> bytes:
            value = self._vcpu.get_one_reg(reg_id)
            op["data"] = value.hex()
            return value

        value: bytes = self._log.attempt(op, get)
        return value

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
        op = self._op("get_short", id=f"{reg_id:016x}", avail=len(target), buf=_untouched(target))

        def get() -> None:
            try:
                self._vcpu.get_one_reg_into(reg_id, target)
            except KvmError as error:
                if error.errno == errno.EFAULT:
                    filled = self._vcpu.fills_short_buffers(reg_id)
                    op.update(copied=len(target) if filled else 0, buf=target.hex() if filled else op["buf"])
                raise

        self._log.attempt(op, get)

    def _write_by_get(self, reg_id: int, data: bytes) -> bytes:
        """A GET that writes its register is recorded as the SET that it is."""
        self.set_one_reg(reg_id, data)
        return data

    def set_one_reg(self, reg_id: int, data: Any) -> None:
        """As Vcpu.set_one_reg."""
        reg_id = index(reg_id)
        raw, size = memoryview(data).tobytes(), regid.size_bytes(reg_id)
        is_whole = len(raw) >= size
        what = {"data": raw[:size].hex()} if is_whole else {"avail": len(raw), "buf": raw.hex()}
        op = self._op("set" if is_whole else "set_short", id=f"{reg_id:016x}", **what)

        def set_() -> None:
            try:
                self._vcpu.set_one_reg(reg_id, raw)
            except KvmError as error:
                if error.errno == errno.EFAULT:  # a system register's SET fetches more than some IDs say
                    op.pop("data", None)
                    op.update(op="set_short", avail=len(raw), buf=raw.hex(), copied=len(raw))
                raise

        self._log.attempt(op, set_)

    def get_reg_list(self, n: int | None = None) -> list[int]:
        """As Vcpu.get_reg_list."""
        op = self._op("reg_list", n_in=8192 if n is None else n)

        def get() -> list[int]:
            ids = self._vcpu.get_reg_list(n)
            counted, unwritten = self._vcpu.listing.n, self._vcpu.listing.unwritten
            op.update(n_out=counted, **summarize(ids, with_sme=True), **{"unwritten": unwritten} if unwritten else {})
            return ids

        ids: list[int] = self._log.attempt(op, get)
        return ids

    def run(self, *, immediate_exit: bool = False) -> RecordedRun:
        """As Vcpu.run; the guest's steps are recorded too."""
        op = self._op("run", immediate_exit=True) if immediate_exit else self._op("run")
        run = self._log.begin_run(op, lambda: self._vcpu.run(immediate_exit=immediate_exit))
        return RecordedRun(self._log, run, op)

    def _op(self, op: str, **fields: Any) -> Op:
        return {"op": op, "vcpu": self._number, **fields}


def _untouched(buffer: memoryview) -> str:
    return bytes([UNTOUCHED] * len(buffer)).hex()


class RecordedRun:
    """A Run that is recorded."""

    def __init__(self, log: OperationLog, run: Run, op: Op) -> None:
        self._log = log
        self._run = run
        self._op = op

    def __enter__(self) -> RecordedGuest:
        return RecordedGuest(self._run.__enter__(), self._op["guest"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)
        self._log.end_run(self._op["vcpu"])
