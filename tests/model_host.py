"""A model with the face of the package's Host, so that what it says can be recorded (see driver.py)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import model
import model_by_mode
from twin import reordered

from kvmsve import FpState, GuestUndefined, HostOops, KvmError
from kvmsve.facts import regid
from kvmsve.facts.revisions import REVISIONS
from kvmsve.rules.reglist import Listing

CONTROLS = ("svcr", "zcr", "smcr", "fpsr", "fpcr", "cpacr", "fpmr", "smidr", "smpri", "tpidr2", "vl", "svl")


@contextmanager
def package_errors() -> Iterator[None]:
    """What the model raises is what the package would."""
    try:
        yield
    except model.Refused as refused:
        raise KvmError(refused.errno, "the model says", n=refused.room) from None
    except model.Oops as oops:
        raise HostOops(str(oops)) from None
    except model.Undefined:
        raise GuestUndefined("the model says") from None


class ModelHost:
    """kvmsve.Host."""

    def __init__(self, other: model.Host) -> None:
        self._other = other

    def create_vm(self) -> ModelVm:
        return ModelVm(self._other.create_vm())

    def check_extension(self, cap: int) -> int:
        return self._other.check_extension(cap)


class ModelVm:
    """kvmsve.Vm."""

    def __init__(self, other: Any) -> None:
        self._other = other

    def create_vcpu(self, index: int) -> ModelVcpu:
        with package_errors():
            return ModelVcpu(self._other.create_vcpu(index))

    def enable_cap(self, cap: int) -> None:
        with package_errors():
            self._other.enable_cap(cap)


class ModelVcpu:
    """kvmsve.Vcpu."""

    def __init__(self, other: Any) -> None:
        self._other = other
        self.abi = REVISIONS[other.host.revision]

    def init(self, words: list[int], target: int) -> None:
        with package_errors():
            self._other.init(words, target)

    def finalize(self, feature: int) -> None:
        with package_errors():
            self._other.finalize(feature)

    def fail_allocations(self, n: int) -> None:
        self._other.fail_allocations(n)

    def get_one_reg(self, reg_id: int) -> bytes:
        with package_errors():
            return reordered(self._other.host, reg_id, self._other.get(reg_id))

    def get_one_reg_into(self, reg_id: int, buffer: Any) -> None:
        """Of the buffer's bytes those that the model says were written are."""
        try:
            data = self._other.get(reg_id, len(buffer))
        except model.Refused as refused:
            if refused.wrote:
                buffer[:] = reordered(self._other.host, reg_id, self._other.get(reg_id))[: len(buffer)]
            raise KvmError(refused.errno, "the model says") from None
        except model.Oops as oops:
            raise HostOops(str(oops)) from None
        buffer[: len(data)] = reordered(self._other.host, reg_id, data)

    def fills_short_buffers(self, reg_id: int) -> bool:
        try:
            self._other.get(reg_id, 1)
        except model.Refused as refused:
            return refused.errno == errno.EFAULT and bool(refused.wrote)
        return False

    def is_written_by_get(self, reg_id: int) -> bool:
        """A GET of a ZA row up to v9."""
        host = self._other.host
        is_sme = reg_id >> 16 & 0xFFF == 0x17 and reg_id not in host.vls_ids
        return is_sme and isinstance(host, model_by_mode.Host) and host.series < 10

    def set_one_reg(self, reg_id: int, data: bytes) -> None:
        with package_errors():
            self._other.set(reg_id, reordered(self._other.host, reg_id, data))

    def get_reg_list(self, n: int | None = None) -> list[int]:
        with package_errors():
            ids: list[int] = self._other.reg_list(n)
            return ids

    @property
    def listing(self) -> Listing:
        ids = self._other.reg_list()
        return Listing(tuple(ids), unwritten=self._other.unwritten)

    def run(self, *, immediate_exit: bool = False) -> ModelRun:
        with package_errors():
            return ModelRun(self._other, self._other.run(immediate_exit))

    @property
    def fp_state(self) -> FpState:
        return FpState[self._other.fp_state]

    @property
    def svcr(self) -> int:
        return int(self._other.regs.get(model.SVCR, 0))

    @property
    def sysregs(self) -> dict[int, int]:
        return {regid.FPMR: self._other.regs.get(regid.FPMR, 0)}

    @property
    def sve_state(self) -> memoryview:
        return memoryview(self._other.sve_state)

    @property
    def sme_state(self) -> memoryview:
        return memoryview(self._other.sme_state)

    @property
    def vregs(self) -> memoryview:
        return memoryview(self._other.vregs)

    def __getattr__(self, name: str) -> Any:
        """max_vq, fpsr, fpcr."""
        return getattr(self._other, name)


class ModelRun:
    """kvmsve.machine.vcpu.Run."""

    def __init__(self, vcpu: Any, guest: Any) -> None:
        self._vcpu = vcpu
        self._guest = guest

    def __enter__(self) -> ModelGuest:
        return ModelGuest(self._guest)

    def __exit__(self, *_: object) -> None:
        self._vcpu.put(self._guest)


class ModelBank:
    """kvmsve.machine.guest.Bank."""

    def __init__(self, read: Callable[[int], bytes], write: Callable[[int, bytes], None]) -> None:
        self._read = read
        self._write = write

    def __getitem__(self, n: int) -> bytes:
        with package_errors():
            return self._read(n)

    def __setitem__(self, n: int, data: bytes) -> None:
        with package_errors():
            self._write(n, data)


class ModelGuest:
    """kvmsve.machine.guest.Guest."""

    def __init__(self, other: Any) -> None:
        self._other = other
        for name in ("z", "p", "v", "za"):
            setattr(self, name, ModelBank(getattr(other, f"read_{name}"), getattr(other, f"write_{name}")))

    def smstart(self, *, sm: bool, za: bool) -> None:
        with package_errors():
            self._other.smstart(sm, za)

    def smstop(self, *, sm: bool, za: bool) -> None:
        with package_errors():
            self._other.smstop(sm, za)

    def narrow(self, vl: int) -> None:
        with package_errors():
            self._other.narrow(vl)


def _whole(name: str) -> property:
    """A register that is no number of a bank."""
    if name in ("vl", "svl"):
        reader, writer = name, ""
    elif name in CONTROLS:
        reader, writer = f"get_{name}", f"set_{name}"
    else:
        reader, writer = f"read_{name}", f"write_{name}"

    def read(self: ModelGuest) -> Any:
        with package_errors():
            return getattr(self._other, reader)()

    def write(self: ModelGuest, value: Any) -> None:
        with package_errors():
            getattr(self._other, writer)(value)

    return property(read, write)


for _name in (*CONTROLS, "ffr", "zt0"):
    setattr(ModelGuest, _name, _whole(_name))
