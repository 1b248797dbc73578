"""Recording of what a program does with a host: its VMs and vCPUs write down every call, so that it replays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from . import regid
from .errors import KvmError
from .recorded_guest import RecordedGuest
from .recording import Writer, write_recording
from .replay import UNTOUCHED, summarize
from .schema import Op
from .vcpu import TARGET_GENERIC_V8, Feature, FeatureSet, Host, Run, Vcpu, Vm, feature_words


@contextmanager
def record(path: str | os.PathLike[str], host: Host, source: str = "kvmsve") -> Iterator[Recorder]:
    """`with record(path, host) as host:`, and what is done with this host is in the file when the block ends well."""
    with write_recording(path, host, source) as writer:
        recorder = Recorder(writer, host)
        yield recorder
        recorder.flush()


class Recorder:
    """A Host that is recorded, and the order in which its operations are written."""

    def __init__(self, writer: Writer, host: Host) -> None:
        self._host = host
        self._writer = writer
        self._idle_run: Op | None = None  # a run whose `with` block may still be entered
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
        try:
            result = call()
        except KvmError as error:
            if op["op"] == "reg_list":
                op["n_out"] = op["n_in"] if error.n is None else error.n
            self.write({**op, "ret": -1, "errno": error.symbol})
            raise
        self.write({**op, "ret": 0})
        return result

    def write(self, op: Op) -> None:
        """One more operation is written."""
        self.flush()
        self._writer.write(**op)

    def hold(self, run: Op) -> None:
        """This run is written before the next operation, unless its guest acts first."""
        self.flush()
        self._idle_run = run

    def release(self) -> None:
        """The held run is written by somebody else."""
        self._idle_run = None

    def flush(self) -> None:
        """No run is held back."""
        if self._idle_run is not None:
            run, self._idle_run = self._idle_run, None
            self._writer.write(**run)


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

    def init(self, features: FeatureSet, target: int = TARGET_GENERIC_V8) -> None:
        """As Vcpu.init."""
        op = self._op(
            "vcpu_init", target=int(target != TARGET_GENERIC_V8), features=feature_words(features, self._vcpu.abi)
        )
        self._recorder.attempt(op, lambda: self._vcpu.init(features, target))

    def finalize(self, feature: Feature | int) -> None:
        """As Vcpu.finalize."""
        number = feature.bit(self._vcpu.abi) if isinstance(feature, Feature) else feature
        self._recorder.attempt(self._op("finalize", feature=number), lambda: self._vcpu.finalize(feature))

    def get_one_reg(self, reg_id: int) -> bytes:
        """As Vcpu.get_one_reg."""
        op = self._op("get", id=f"{reg_id:016x}")

        def get() -> bytes:
            value = self._vcpu.get_one_reg(reg_id)
            op["data"] = value.hex()
            return value

        value: bytes = self._recorder.attempt(op, get)
        return value

    def get_one_reg_into(self, reg_id: int, buffer: Any) -> None:
        """As Vcpu.get_one_reg_into."""
        target = memoryview(buffer).cast("B")
        if len(target) >= regid.size_bytes(reg_id):
            value = self.get_one_reg(reg_id)
            target[: len(value)] = value
            return
        seen = bytearray([UNTOUCHED]) * len(target)
        op = self._op("get_short", id=f"{reg_id:016x}", avail=len(seen))

        def get() -> None:
            try:
                self._vcpu.get_one_reg_into(reg_id, seen)
            except KvmError as error:
                if error.errno == errno.EFAULT:
                    op["copied"] = 0 if seen.count(UNTOUCHED) == len(seen) else len(seen)
                    target[: op["copied"]] = seen[: op["copied"]]
                raise
            finally:
                op["buf"] = seen.hex()

        self._recorder.attempt(op, get)

    def set_one_reg(self, reg_id: int, data: Any) -> None:
        """As Vcpu.set_one_reg."""
        raw, size = memoryview(data).tobytes(), regid.size_bytes(reg_id)
        if len(raw) >= size:
            op = self._op("set", id=f"{reg_id:016x}", data=raw[:size].hex())
        else:
            op = self._op("set_short", id=f"{reg_id:016x}", avail=len(raw), buf=raw.hex(), copied=len(raw))
        self._recorder.attempt(op, lambda: self._vcpu.set_one_reg(reg_id, raw))

    def get_reg_list(self, n: int | None = None) -> list[int]:
        """As Vcpu.get_reg_list."""
        op = self._op("reg_list", n_in=8192 if n is None else n)

        def get() -> list[int]:
            ids = self._vcpu.get_reg_list(n)
            op.update(n_out=len(ids), **summarize(ids))
            return ids

        ids: list[int] = self._recorder.attempt(op, get)
        return ids

    def run(self, *, immediate_exit: bool = False) -> RecordedRun:
        """As Vcpu.run; the guest's steps are recorded too."""
        if immediate_exit:
            op = self._op("run", immediate_exit=True)
            self._recorder.attempt(op, lambda: self._vcpu.run(immediate_exit=True))
        try:
            run = self._vcpu.run()
        except KvmError as error:
            self._recorder.write(self._op("run", ret=-1, errno=error.symbol))
            raise
        op = self._op("run", ret=0, guest=[])
        self._recorder.hold(op)
        return RecordedRun(self._recorder, run, op)

    def _op(self, op: str, **fields: Any) -> Op:
        return {"op": op, "vcpu": self._number, **fields}


class RecordedRun:
    """A Run that is recorded."""

    def __init__(self, recorder: Recorder, run: Run, op: Op) -> None:
        self._recorder = recorder
        self._run = run
        self._op = op

    def __enter__(self) -> RecordedGuest:
        self._recorder.release()
        return RecordedGuest(self._run.__enter__(), self._op["guest"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)
        self._recorder.write(self._op)
