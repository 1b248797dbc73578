"""Operations done on the model: what each is done with, and what its caller sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import GuestUndefined, HostOops, KvmError
from ..facts import TARGET_GENERIC_V8, regid
from ..machine import Host, Run, Vcpu, Vm
from ..state import held
from .listing import summarize
from .outcome import Observation, Op
from .steps import observe_step

WRONG_TARGET = 0xFFFF
SUCCESS, CRASH = "success", "a crash of the host"
AS_RECORDED = Observation("", SUCCESS, SUCCESS)
UNTOUCHED = 0xA5  # what a user buffer held before a call


class Misuse(Exception):
    """An operation names a VM or vCPU that the recording has not made."""


class Machine:
    """A model of a recorded host, or of the same host with the kernel of another revision; it does operations.

    `vcpus` are those that are open, by the recording's numbers.
    """

    def __init__(self, host: Host, unlisted: int = 0) -> None:
        """`unlisted`: how many more registers without vector meaning the recorded kernel lists than this model."""
        self._unlisted = unlisted
        self.host = host
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
