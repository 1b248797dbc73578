"""Recording of what a program does with a host: its VMs and vCPUs write down every call, so that it replays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import index
from types import TracebackType
from typing import Any

from . import regid
from .errors import HostOops, KvmError
from .features import TARGET_GENERIC_V8, Feature, FeatureSet, feature_words
from .recorded_guest import RecordedGuest
from .recording import Writer, write_recording
from .replay import UNTOUCHED, held, summarize
from .schema import Op
from .vcpu import Host, Run, Vcpu, Vm


@contextmanager
def record(path: str | os.PathLike[str], host: Host, source: str = "kvmsve") -> Iterator[Recorder]:
    """`with record(path, host) as recorded:`, and what is done with it is in the file when the block ends well."""
    with write_recording(path, host, source) as writer:
        recorder = Recorder(writer, host)
        yield recorder
        recorder.flush()


class Recorder:
    """A Host that is recorded, and the order in which its operations are written.

    A run is written where it began, once its guest has left; what is done meanwhile on other vCPUs comes after it.
    """

    def __init__(self, writer: Writer, host: Host) -> None:
        self._host = host
        self._writer = writer
        self._queue: list[Op] = []
        self._open_runs = 0
        self._vms = 0
        self._vcpus = 0

    def create_vm(self) -> RecordedVm:
        """As Host.create_vm."""
        vm = RecordedVm(self, self._host.create_vm(), self._vms)
        self._vms += 1
        self.write({"op": "create_vm", "vm": vm.number, "ret": 0})
        return vm

    def check_extension(self, cap: int) -> int:
        """As Host.check_extension."""
        value = self._host.check_extension(cap)
        self.write({"op": "check_extension", "on": "kvm", "cap": cap, "ret": value})
        return value

    def note(self, text: str) -> None:
        """The recording has a heading here."""
        self.write({"op": "note", "text": text})

    def number_vcpu(self) -> int:
        """A number that no other vCPU of the recording has."""
        self._vcpus += 1
        return self._vcpus - 1

    def attempt(self, op: Op, call: Callable[[], Any]) -> Any:
        """What the call returns or raises, and the operation is written with its outcome."""
        with self.refusal_of(op):
            result = call()
        self.write({**op, "ret": 0})
        return result

    @contextmanager
    def refusal_of(self, op: Op) -> Iterator[None]:
        """The operation is written with its outcome if the block ends in a refusal, or a crash of the host."""
        try:
            yield
        except KvmError as error:
            if op["op"] == "reg_list":
                op["n_out"] = op["n_in"] if error.n is None else error.n
            self.write({**op, "ret": -1, "errno": error.symbol})
            raise
        except HostOops:
            self.write({**op, "ret": -1, "crash": True})
            raise

    def write(self, op: Op) -> None:
        """One more operation is written."""
        self.queue(op)
        self.flush()

    def queue(self, op: Op) -> None:
        """One more operation is written later, as it is then."""
        self._queue.append(op)

    def begin_run(self) -> None:
        """A guest acts: what is done now waits."""
        self._open_runs += 1

    def end_run(self) -> None:
        """A guest has left; after the last one all that waited is written."""
        self._open_runs -= 1
        self.flush()

    def flush(self) -> None:
        """Nothing waits that could be written."""
        if not self._open_runs:
            for op in self._queue:
                self._writer.write(**op)
            self._queue.clear()


class RecordedVm:
    """A Vm that is recorded."""

    def __init__(self, recorder: Recorder, vm: Vm, number: int) -> None:
        self._recorder = recorder
        self._vm = vm
        self.number = number

    def create_vcpu(self, index: int) -> RecordedVcpu:
        """As Vm.create_vcpu."""
        number = self._recorder.number_vcpu()
        op = {"op": "create_vcpu", "vm": self.number, "vcpu": number, "index": index}
        return RecordedVcpu(self._recorder, self._recorder.attempt(op, lambda: self._vm.create_vcpu(index)), number)

    def enable_cap(self, cap: int) -> None:
        """As Vm.enable_cap."""
        op = {"op": "enable_cap", "vm": self.number, "cap": cap}
        self._recorder.attempt(op, lambda: self._vm.enable_cap(cap))

    def check_extension(self, cap: int) -> int:
        """As Vm.check_extension."""
        value = self._vm.check_extension(cap)
        self._recorder.write({"op": "check_extension", "on": "vm", "cap": cap, "ret": value})
        return value


class RecordedVcpu:
    """A Vcpu that is recorded; what only looks (sve_state, fp_state ...) is the Vcpu's own."""

    def __init__(self, recorder: Recorder, vcpu: Vcpu, number: int) -> None:
        self._recorder = recorder
        self._vcpu = vcpu
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vcpu, name)

    def fail_allocations(self, n: int = 1) -> None:
        """As Vcpu.fail_allocations."""
        self._vcpu.fail_allocations(n)
        self._recorder.write(self._op("fail_allocations", n=n))

    def look(self) -> None:
        """The recording says here what the kernel's memory holds of the vCPU."""
        found = held(self._vcpu)
        values = {what: value.hex() if isinstance(value, bytes) else value for what, value in found.items()}
        self._recorder.write(self._op("held", **values))

    def init(self, features: FeatureSet, target: int = TARGET_GENERIC_V8) -> None:
        """As Vcpu.init."""
        op = self._op(
            "vcpu_init",
            target=int(index(target) != TARGET_GENERIC_V8),
            features=feature_words(features, self._vcpu.abi),
        )
        self._recorder.attempt(op, lambda: self._vcpu.init(features, target))

    def finalize(self, feature: Feature | int) -> None:
        """As Vcpu.finalize."""
        number = feature.bit(self._vcpu.abi) if isinstance(feature, Feature) else feature
        self._recorder.attempt(self._op("finalize", feature=number), lambda: self._vcpu.finalize(feature))

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

        value: bytes = self._recorder.attempt(op, get)
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

        self._recorder.attempt(op, get)

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
                if error.errno == errno.EFAULT:
                    op["copied"] = len(raw)
                raise

        self._recorder.attempt(op, set_)

    def get_reg_list(self, n: int | None = None) -> list[int]:
        """As Vcpu.get_reg_list."""
        op = self._op("reg_list", n_in=8192 if n is None else n)

        def get() -> list[int]:
            ids = self._vcpu.get_reg_list(n)
            counted, unwritten = self._vcpu.listing.n, self._vcpu.listing.unwritten
            op.update(n_out=counted, **summarize(ids, with_sme=True), **{"unwritten": unwritten} if unwritten else {})
            return ids

        ids: list[int] = self._recorder.attempt(op, get)
        return ids

    def run(self, *, immediate_exit: bool = False) -> RecordedRun:
        """As Vcpu.run; the guest's steps are recorded too."""
        op = self._op("run", immediate_exit=True) if immediate_exit else self._op("run")
        with self._recorder.refusal_of(op):
            run = self._vcpu.run(immediate_exit=immediate_exit)
        op.update(ret=0, guest=[])
        self._recorder.queue(op)
        return RecordedRun(self._recorder, run, op)

    def _op(self, op: str, **fields: Any) -> Op:
        return {"op": op, "vcpu": self._number, **fields}


def _untouched(buffer: memoryview) -> str:
    return bytes([UNTOUCHED] * len(buffer)).hex()


class RecordedRun:
    """A Run that is recorded."""

    def __init__(self, recorder: Recorder, run: Run, op: Op) -> None:
        self._recorder = recorder
        self._run = run
        self._op = op

    def __enter__(self) -> RecordedGuest:
        guest = self._run.__enter__()
        self._recorder.begin_run()
        return RecordedGuest(guest, self._op["guest"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)
        self._recorder.end_run()
