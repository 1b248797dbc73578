"""Operations done on the model: what each is done with, and what its caller sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from ..errors import GuestUndefined, HostOops, KvmError
from ..facts import TARGET_GENERIC_V8, regid
from ..machine import Host, Run, Vcpu, Vm
from ..state import held
from . import operations as ops
from .act import observe_step
from .guest_steps import Step
from .listing import summarize
from .operations import Call, Operation
from .outcome import Observation

WRONG_TARGET = 0xFFFF
SUCCESS, CRASH = "success", "a crash of the host"
AS_RECORDED = Observation("", SUCCESS, SUCCESS)
UNTOUCHED = 0xA5  # what a user buffer held before a call
SYSREG_BYTES = 8  # that a SET of a system register fetches, whatever its ID says

Seen = Iterable[Observation]


class Misuse(Exception):
    """An operation names a VM or vCPU that the recording has not made, or what no call can be given."""


class Machine:
    """A model of a recorded host, or of the same host with the kernel of another revision; it does operations.

    `vcpus` are those that are open, by the recording's numbers.
    """

    def __init__(self, host: Host, unlisted: int = 0) -> None:
        """`unlisted`: how many more registers without vector meaning the recorded kernel lists than this model."""
        self._unlisted = unlisted
        self.host = host
        self.gets_write = host.abi.za is not None and host.abi.za.get_writes
        self._vms: dict[int, Vm] = {}
        self.vcpus: dict[int, Vcpu] = {}

    def perform(self, op: Operation) -> Seen:
        """What the caller sees of the operation, whether it succeeds first; it is done when all of that is told.

        Misuse if it cannot be done.
        """
        match op:
            case ops.Get():
                return self.get(op)
            case ops.Set():
                data = op.data.ljust(max(regid.size_bytes(op.reg_id), SYSREG_BYTES), b"\0")
                return [attempt(op, self.vcpu(op.vcpu).set_one_reg, op.reg_id, data)[0]]
            case ops.Run():
                return self.run(op)
            case ops.GetShort():
                return self.get_short(op)
            case ops.SetShort():
                data = op.buf if op.copied is None else op.buf[: op.copied]
                return [attempt(op, self.vcpu(op.vcpu).set_one_reg, op.reg_id, data)[0]]
            case ops.RegList():
                return self.reg_list(op)
            case ops.VcpuInit():
                target = WRONG_TARGET if op.target else TARGET_GENERIC_V8
                return [attempt(op, self.vcpu(op.vcpu).init, op.features, target)[0]]
            case ops.Finalize():
                return [attempt(op, self.vcpu(op.vcpu).finalize, op.feature)[0]]
            case ops.CreateVm():
                result, vm = attempt(op, self.host.create_vm)
                self._keep(self._vms, op.vm, vm)
                return [result]
            case ops.CreateVcpu():
                result, vcpu = attempt(op, self.vm(op.vm).create_vcpu, op.index)
                self._keep(self.vcpus, op.vcpu, vcpu)
                return [result]
            case ops.Close():
                self._vms.pop(op.vm, None)
                self.vcpus.pop(op.vcpu, None)
            case ops.CheckExtension():
                return [Observation("the capability", op.ret, _checked(self.host.check_extension, op.cap))]
            case ops.EnableCap():
                return [attempt(op, self.vm(op.vm).enable_cap, op.cap)[0]]
            case ops.FailAllocations():
                self.vcpu(op.vcpu).fail_allocations(op.n)
            case ops.Held():
                now = held(self.vcpu(op.vcpu))._asdict()
                return [Observation(what, getattr(op, what), value) for what, value in now.items()]
        return ()

    def vm(self, number: int) -> Vm:
        """The VM of this number. Misuse if there is none."""
        if number not in self._vms:
            raise Misuse(f"there is no VM {number}")
        return self._vms[number]

    def vcpu(self, number: int) -> Vcpu:
        """The vCPU of this number. Misuse if there is none."""
        vcpu = self.vcpus.get(number)
        if vcpu is None:
            raise Misuse(f"there is no vCPU {number}")
        return vcpu

    def may_write(self, op: ops.Get) -> bool:
        """The GET may copy the user's buffer into the register: it is one of ZA's, in a revision that does so."""
        return self.gets_write and regid.coproc(op.reg_id) == regid.SME

    # Operations that take more than a line

    def get(self, op: ops.Get) -> Seen:
        """Where a GET writes its register instead, the user's buffer has what was there before."""
        vcpu = self.vcpu(op.vcpu)
        if self.may_write(op):
            buffer = bytearray([UNTOUCHED]) * regid.size_bytes(op.reg_id)
            result, data = attempt(op, _filled, vcpu.get_one_reg_into, op.reg_id, buffer)
        else:
            result, data = attempt(op, vcpu.get_one_reg, op.reg_id)
        return [result] if data is None else [result, Observation("", op.data, data, op.mask or b"")]

    def get_short(self, op: ops.GetShort) -> Seen:
        """Of the buffer so many bytes are compared as the recorded CPU moved."""
        copied = op.copied if op.copied is not None else 0 if op.has_failed else op.avail
        buffer = bytearray([UNTOUCHED]) * op.avail
        result, _ = attempt(op, self.vcpu(op.vcpu).get_one_reg_into, op.reg_id, buffer)
        buffer[copied:] = bytes([UNTOUCHED]) * (len(buffer) - copied)
        return [result, Observation("", op.buf, bytes(buffer))]

    def reg_list(self, op: ops.RegList) -> Seen:
        """The list, with room for as many more as the recorded kernel lists."""
        vcpu = self.vcpu(op.vcpu)
        result, listed = attempt(op, vcpu.get_reg_list, max(op.n_in - self._unlisted, 0))
        if listed is None:
            n = vcpu.listing.n + self._unlisted if result.actual == "E2BIG" else op.n_in
            return [result, Observation("n", None if op.errno is None else op.n_out, n)]
        summary = summarize(listed, with_sme=op.sme is not None or op.ids is None)
        counts = [
            Observation("core registers", op.core, summary.core),
            Observation("SVE registers", op.sve, summary.sve),
            Observation("SME registers", op.sme, summary.sme),
        ]
        return [
            result,
            Observation("n", op.n_out, vcpu.listing.n + self._unlisted),
            Observation("entries counted but not written", op.unwritten, vcpu.listing.unwritten),
            *(count for count in counts if count.recorded is not None or op.ids is None),
            Observation("kept", None if op.ids is None else tuple(op.ids), tuple(summary.ids)),
        ]

    def run(self, op: ops.Run) -> Iterator[Observation]:
        """The guest takes its steps, up to one that is UNDEFINED for it."""
        result, run = attempt(op, self.vcpu(op.vcpu).run, immediate_exit=op.immediate_exit)
        yield result
        if run is not None:
            yield from self.guest(run, op.guest or ())

    def guest(self, run: Run, steps: Sequence[Step]) -> Iterator[Observation]:
        """What the guest sees in each step."""
        with run as guest:
            for position, step in enumerate(steps):
                try:
                    for seen in observe_step(guest, step):
                        yield replace(seen, what=f"guest step {position}: {seen.what}")
                except GuestUndefined as undefined:
                    yield Observation(f"guest step {position}", "done", "UNDEFINED", why=undefined)
                    return
                except (ValueError, IndexError) as error:
                    raise Misuse(f"guest step {position}: {error}") from None

    def _keep(self, place: dict[int, Any], number: int, made: Any) -> None:
        """What a call has made has this number."""
        if made is not None:
            place[number] = made


def _filled(call: Callable[[int, bytearray], None], reg_id: int, buffer: bytearray) -> bytes:
    call(reg_id, buffer)
    return bytes(buffer)


def _checked(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the call returns. Misuse for a number that no ioctl can be given."""
    try:
        return call(*arguments, **options)
    except ValueError as error:
        raise Misuse(str(error)) from None


def attempt(op: Call, call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Observation, Any]:
    """Whether the call succeeds, and what it returns then."""
    recorded = CRASH if op.crash else op.errno or SUCCESS
    try:
        value = _checked(call, *arguments, **options)
    except KvmError as error:
        return Observation("", recorded, error.symbol, b"", error.with_traceback(None)), None
    except HostOops as oops:
        return Observation("", recorded, CRASH, b"", oops.with_traceback(None)), None
    return AS_RECORDED if recorded == SUCCESS else Observation("", recorded, SUCCESS), value
