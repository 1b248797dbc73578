"""Replay: a recording's operations done again on the model, and the first difference found.

Return values, errnos and bytes are compared exactly, but for what a recording itself says is not ABI (`mask`, `tail`,
`copied`, `narrow`; tests/recordings/FORMAT.md).
"""

from __future__ import annotations

from collections.abc import Callable

from . import regid, reglist
from .compare import Difference, compare_bytes, compare_number
from .errors import GuestUndefined, HostOops, KvmError
from .recording import Recording
from .schema import Op
from .steps import take_step
from .vcpu import TARGET_GENERIC_V8, Vcpu, Vm

WRONG_TARGET = 0xFFFF
UNTOUCHED = 0xA5  # what a user buffer held before a call
KEPT_IDS = {
    *reglist.VREGS, regid.FPSR, regid.FPCR, *reglist.SVE_BLOCK,
    regid.ID_AA64ZFR0_EL1, regid.ID_AA64SMFR0_EL1, regid.ZCR_EL1,
}  # fmt: skip


class Misuse(Exception):
    """An operation names a VM or vCPU that the recording has not made."""


class Replay:
    """A model of the recorded host, and the recording's operations to be done on it in order."""

    def __init__(self, recording: Recording) -> None:
        self._unlisted = recording.header.unlisted
        self._sme_vls = recording.header.abi.sme_vls
        self._host = recording.header.create_host()
        self._vms: dict[int, Vm] = {}
        self.vcpus: dict[int, Vcpu] = {}

    def play(self, line: int, op: Op) -> None:
        """The operation is done. Difference if its outcome is not the recorded one, Misuse if it cannot be done."""
        try:
            self._play(op)
        except Difference as difference:
            difference.line, difference.op = line, op
            raise

    def _play(self, op: Op) -> None:
        act: Callable[[Op], None] | None = getattr(self, f"_{op['op']}", None)
        if act is None:
            return
        expected = op.get("errno", "success")
        try:
            act(op)
        except KvmError as error:
            actual = error.symbol
            if actual != expected:
                raise Difference(f"expected {expected}, actual {actual} ({error.strerror})") from None
            self._compare_refused(op, error)
        except HostOops as oops:
            raise Difference(f"expected {expected}, actual a crash of the host ({oops})") from None
        else:
            if expected != "success":
                raise Difference(f"expected {expected}, actual success")

    def _compare_refused(self, op: Op, error: KvmError) -> None:
        if op["op"] == "reg_list":
            compare_number("n", op["n_out"], op["n_in"] if error.n is None else error.n + self._unlisted)

    # One method an operation, named as in the file

    def _check_extension(self, op: Op) -> None:
        compare_number("the capability", op["ret"], self._host.check_extension(op["cap"]))

    def _create_vm(self, op: Op) -> None:
        self._vms[op["vm"]] = self._host.create_vm()

    def _create_vcpu(self, op: Op) -> None:
        if op["vm"] not in self._vms:
            raise Misuse(f"there is no VM {op['vm']}")
        self.vcpus[op["vcpu"]] = self._vms[op["vm"]].create_vcpu(op["index"])

    def _close(self, op: Op) -> None:
        self._vms.pop(op["vm"], None)
        self.vcpus.pop(op["vcpu"], None)

    def _vcpu_init(self, op: Op) -> None:
        self._vcpu(op).init(op["features"], WRONG_TARGET if op["target"] else TARGET_GENERIC_V8)

    def _finalize(self, op: Op) -> None:
        self._vcpu(op).finalize(op["feature"])

    def _get(self, op: Op) -> None:
        value = self._vcpu(op).get_one_reg(int(op["id"], 16))
        if "data" in op:
            compare_bytes(bytes.fromhex(op["data"]), value, mask=bytes.fromhex(op.get("mask", "")))

    def _set(self, op: Op) -> None:
        reg_id = int(op["id"], 16)
        self._vcpu(op).set_one_reg(reg_id, bytes.fromhex(op["data"]).ljust(regid.size_bytes(reg_id), b"\0"))

    def _get_short(self, op: Op) -> None:
        recorded = bytes.fromhex(op["buf"])
        copied = op.get("copied", len(recorded) if op["ret"] >= 0 else 0)
        buffer = bytearray([UNTOUCHED]) * op["avail"]
        try:
            self._vcpu(op).get_one_reg_into(int(op["id"], 16), buffer)
        finally:
            buffer[copied:] = bytes([UNTOUCHED]) * (len(buffer) - copied)
            compare_bytes(recorded, bytes(buffer))

    def _set_short(self, op: Op) -> None:
        data = bytes.fromhex(op["buf"])
        self._vcpu(op).set_one_reg(int(op["id"], 16), data[: op.get("copied", len(data))])

    def _reg_list(self, op: Op) -> None:
        listed = self._vcpu(op).get_reg_list(op["n_in"] - self._unlisted)
        compare_number("n", op["n_out"], len(listed) + self._unlisted)
        if "ids" not in op:
            return
        summary = summarize(listed)
        compare_number("core registers", op["core"], summary["core"])
        compare_number("SVE registers", op["sve"], summary["sve"])
        compare_number("entries kept", len(op["ids"]), len(summary["ids"]))
        for position, (expected, actual) in enumerate(zip(op["ids"], summary["ids"], strict=True)):
            if int(expected, 16) != int(actual, 16):
                names = [regid.name(int(reg_id, 16)) for reg_id in (expected, actual)]
                raise Difference(f"entry {position} of those kept: expected {names[0]}, actual {names[1]}")

    def _run(self, op: Op) -> None:
        with self._vcpu(op).run(immediate_exit=op.get("immediate_exit", False)) as guest:
            for position, step in enumerate(op.get("guest", ())):
                try:
                    take_step(guest, step)
                except GuestUndefined as undefined:
                    raise Difference(f"guest step {position}: {undefined}") from None
                except (ValueError, IndexError) as error:
                    raise Misuse(f"guest step {position}: {error}") from None
                except Difference as difference:
                    raise Difference(f"guest step {position}: {difference.args[0]}") from None

    def _vcpu(self, op: Op) -> Vcpu:
        if op["vcpu"] not in self.vcpus:
            raise Misuse(f"there is no vCPU {op['vcpu']}")
        return self.vcpus[op["vcpu"]]


def summarize(listed: list[int]) -> Op:
    """What a recording keeps of a register list: two counts, and the IDs that concern vectors."""
    return {
        "core": sum(regid.coproc(reg_id) == regid.CORE for reg_id in listed),
        "sve": sum(regid.coproc(reg_id) == regid.SVE for reg_id in listed),
        "ids": [f"{reg_id:016x}" for reg_id in listed if reg_id in KEPT_IDS],
    }
