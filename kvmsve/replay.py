"""Replay: a recording's operations done again on the model, and the first difference found.

Return values, errnos and bytes are compared exactly, but for what a recording itself says is not ABI (`mask`, `tail`,
`copied`, `narrow`; tests/recordings/FORMAT.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import regid, reglist
from .abi import Abi
from .compare import Difference, Observation, Value, compare_number
from .errors import GuestUndefined, HostOops, KvmError
from .features import TARGET_GENERIC_V8
from .recording import Header, Recording, RecordingError
from .schema import Op
from .steps import observe_step
from .vcpu import Run, Vcpu, Vm

WRONG_TARGET = 0xFFFF
SUCCESS, CRASH = "success", "a crash of the host"
AS_RECORDED = Observation("", SUCCESS, SUCCESS)
UNTOUCHED = 0xA5  # what a user buffer held before a call
KEPT_IDS = {
    *reglist.VREGS, regid.FPSR, regid.FPCR, *reglist.SVE_BLOCK,
    regid.ID_AA64ZFR0_EL1, regid.ID_AA64SMFR0_EL1, regid.ZCR_EL1,
}  # fmt: skip
KEPT_SME_SYSREGS = {regid.SMCR_EL1, regid.SMIDR_EL1, regid.SVCR, regid.FPMR, regid.TPIDR2_EL0}


class Misuse(Exception):
    """An operation names a VM or vCPU that the recording has not made."""


@contextmanager
def misuse_at(path: Path, line: int) -> Iterator[None]:
    """A Misuse in the block is a RecordingError at this line."""
    try:
        yield
    except Misuse as misuse:
        raise RecordingError(path, line, str(misuse)) from None


class Machine:
    """A model of a recorded host, or of the same host with the kernel of another revision; it does operations.

    `vcpus` are those that are open, by the recording's numbers.
    """

    def __init__(self, header: Header, revision: Abi | None = None) -> None:
        self._unlisted = header.unlisted
        self.host = header.create_host(revision)
        self._vms: dict[int, Vm] = {}
        self.vcpus: dict[int, Vcpu] = {}

    def perform(self, op: Op) -> Iterator[Observation]:
        """The operation is done, and what its caller sees is told as it goes, whether it succeeds first.

        An operation is done when the iteration has ended. Misuse if it cannot be done.
        """
        act: Callable[[Op], Iterator[Observation]] | None = getattr(self, f"_{op['op']}", None)
        return act(op) if act is not None else iter(())

    # One method an operation, named as in the file

    def _check_extension(self, op: Op) -> Iterator[Observation]:
        yield Observation("the capability", op["ret"], self.host.check_extension(op["cap"]))

    def _create_vm(self, op: Op) -> Iterator[Observation]:
        result, self._vms[op["vm"]] = attempt(op, self.host.create_vm)
        yield result

    def _create_vcpu(self, op: Op) -> Iterator[Observation]:
        result, vcpu = attempt(op, self._vm(op).create_vcpu, op["index"])
        if vcpu is not None:
            self.vcpus[op["vcpu"]] = vcpu
        yield result

    def _enable_cap(self, op: Op) -> Iterator[Observation]:
        yield attempt(op, self._vm(op).enable_cap, op["cap"])[0]

    def _close(self, op: Op) -> Iterator[Observation]:
        self._vms.pop(op["vm"], None)
        self.vcpus.pop(op["vcpu"], None)
        return iter(())

    def _vcpu_init(self, op: Op) -> Iterator[Observation]:
        target = WRONG_TARGET if op["target"] else TARGET_GENERIC_V8
        yield attempt(op, self._vcpu(op).init, op["features"], target)[0]

    def _finalize(self, op: Op) -> Iterator[Observation]:
        yield attempt(op, self._vcpu(op).finalize, op["feature"])[0]

    def _get(self, op: Op) -> Iterator[Observation]:
        reg_id = int(op["id"], 16)
        buffer = bytearray([UNTOUCHED]) * regid.size_bytes(reg_id)
        result, _ = attempt(op, self._vcpu(op).get_one_reg_into, reg_id, buffer)
        yield result
        if result.actual == SUCCESS:
            data = bytes.fromhex(op["data"]) if "data" in op else None
            mask = bytes.fromhex(op["mask"]) if "mask" in op else b""
            yield Observation("", data, bytes(buffer), mask)

    def _set(self, op: Op) -> Iterator[Observation]:
        reg_id = int(op["id"], 16)
        room = max(regid.size_bytes(reg_id), 8)  # a system register is fetched as 64 bits whatever its ID says
        data = bytes.fromhex(op["data"]).ljust(room, b"\0")
        yield attempt(op, self._vcpu(op).set_one_reg, reg_id, data)[0]

    def _get_short(self, op: Op) -> Iterator[Observation]:
        recorded = bytes.fromhex(op["buf"])
        copied = op.get("copied", len(recorded) if op["ret"] >= 0 else 0)
        buffer = bytearray([UNTOUCHED]) * op["avail"]
        yield attempt(op, self._vcpu(op).get_one_reg_into, int(op["id"], 16), buffer)[0]
        buffer[copied:] = bytes([UNTOUCHED]) * (len(buffer) - copied)
        yield Observation("", recorded, bytes(buffer))

    def _set_short(self, op: Op) -> Iterator[Observation]:
        data = bytes.fromhex(op["buf"])
        yield attempt(op, self._vcpu(op).set_one_reg, int(op["id"], 16), data[: op.get("copied", len(data))])[0]

    def _reg_list(self, op: Op) -> Iterator[Observation]:
        vcpu = self._vcpu(op)
        result, listed = attempt(op, vcpu.get_reg_list, max(op["n_in"] - self._unlisted, 0))
        yield result
        if listed is None:
            n = vcpu.listing.n + self._unlisted if result.actual == "E2BIG" else op["n_in"]
            yield Observation("n", op["n_out"] if "errno" in op else None, n)
            return
        yield Observation("n", op["n_out"], vcpu.listing.n + self._unlisted)
        yield Observation("entries counted but not written", op.get("unwritten", 0), vcpu.listing.unwritten)
        recorded = "ids" in op
        summary = summarize(listed, with_sme="sme" in op or not recorded)
        for kind, name in (("core", "core"), ("sve", "SVE"), ("sme", "SME")):
            count = summary[kind] if kind in op or not recorded else 0
            yield Observation(f"{name} registers", op.get(kind, 0) if recorded else None, count)
        names = self._names(op["ids"]) if recorded else None
        yield Observation("kept", names, self._names(summary["ids"]))

    def _run(self, op: Op) -> Iterator[Observation]:
        result, run = attempt(op, self._vcpu(op).run, immediate_exit=op.get("immediate_exit", False))
        yield result
        if run is not None:
            yield from self._guest(run, op.get("guest", ()))

    def _fail_allocations(self, op: Op) -> Iterator[Observation]:
        self._vcpu(op).fail_allocations(op["n"])
        return iter(())

    def _held(self, op: Op) -> Iterator[Observation]:
        for what, actual in held(self._vcpu(op)).items():
            yield Observation(what, bytes.fromhex(op[what]) if isinstance(actual, bytes) else op[what], actual)

    def _guest(self, run: Run, steps: list[Op]) -> Iterator[Observation]:
        """The guest takes the steps, up to one that is UNDEFINED for it."""
        with run as guest:
            for position, step in enumerate(steps):
                where = f"guest step {position}"
                try:
                    for seen in observe_step(guest, step):
                        yield seen._replace(what=f"{where}: {seen.what}")
                except GuestUndefined as undefined:
                    yield Observation(where, "done", "UNDEFINED", why=str(undefined))
                    return
                except (ValueError, IndexError) as error:
                    raise Misuse(f"{where}: {error}") from None

    def _vm(self, op: Op) -> Vm:
        if op["vm"] not in self._vms:
            raise Misuse(f"there is no VM {op['vm']}")
        return self._vms[op["vm"]]

    def _vcpu(self, op: Op) -> Vcpu:
        if op["vcpu"] not in self.vcpus:
            raise Misuse(f"there is no vCPU {op['vcpu']}")
        return self.vcpus[op["vcpu"]]

    def _names(self, ids: list[str]) -> tuple[str, ...]:
        return tuple(regid.name(int(reg_id, 16), self.host.abi.sme_vls) for reg_id in ids)


def attempt(op: Op, call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Observation, Any]:
    """Whether the call succeeds, and what it returns then."""
    recorded = CRASH if op.get("crash") else op.get("errno", SUCCESS)
    try:
        value = call(*arguments, **options)
    except KvmError as error:
        return Observation("", recorded, error.symbol, why=error.strerror or ""), None
    except HostOops as oops:
        return Observation("", recorded, CRASH, why=str(oops)), None
    return AS_RECORDED if recorded == SUCCESS else Observation("", recorded, SUCCESS), value


class Replay(Machine):
    """A model of the recorded host, and the recording's operations to be done on it in order."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.header)

    def play(self, line: int, op: Op) -> None:
        """The operation is done. Difference if its outcome is not the recorded one, Misuse if it cannot be done."""
        try:
            for observation in self.perform(op):
                observation.check()
            if not {"errno", "crash"} & op.keys() and op["op"] != "check_extension":
                compare_number("ret", op.get("ret", 0), 0)
        except Difference as difference:
            difference.line, difference.op = line, op
            raise


def held(vcpu: Vcpu) -> dict[str, Value]:
    """What a kernel's memory holds of the vCPU, as far as it concerns vectors; by the format's words."""
    return {
        "fp_state": vcpu.fp_state.name,
        "max_vq": vcpu.max_vq,
        "svcr": vcpu.svcr,
        "fpmr": vcpu.sysregs.get(regid.FPMR, 0),
        "fpsr": vcpu.fpsr,
        "fpcr": vcpu.fpcr,
        "sve_state": vcpu.sve_state.tobytes(),
        "sme_state": vcpu.sme_state.tobytes(),
        "vregs": vcpu.vregs.tobytes(),
    }


def summarize(listed: list[int], with_sme: bool) -> Op:
    """What a recording keeps of a register list: counts by kind, and the IDs that concern vectors."""
    kept = KEPT_IDS | KEPT_SME_SYSREGS if with_sme else KEPT_IDS
    return {
        "core": sum(regid.coproc(reg_id) == regid.CORE for reg_id in listed),
        "sve": sum(regid.coproc(reg_id) == regid.SVE for reg_id in listed),
        "sme": sum(regid.coproc(reg_id) == regid.SME for reg_id in listed),
        "ids": [
            f"{reg_id:016x}" for reg_id in listed if reg_id in kept or (with_sme and regid.coproc(reg_id) == regid.SME)
        ],
    }
