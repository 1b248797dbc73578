"""One vCPU twice, in the package and in the model of its revision: a call is made on both and must end alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import model
import model_by_mode
from examples import is_one_line

from kvmsve import GuestUndefined, HostOops, KvmError, Vcpu
from kvmsve.facts import regid


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or what it ends in: the same value for the package and for the model."""
    try:
        return call()
    except KvmError as error:
        return "errno" if is_one_line(error.strerror) else "no reason", error.errno, error.n
    except model.Refused as error:
        return "errno", error.errno, error.room
    except (HostOops, model.Oops):
        return "oops"
    except (GuestUndefined, model.Undefined):
        return "undefined"
    except ValueError:
        return "wrong size"


def agree(trace: deque[Any], what: tuple[Any, ...], package: Callable[[], Any], other: Callable[[], Any]) -> Any:
    """The outcome of one call, which is the same on both sides."""
    trace.append(what)
    actual, expected = outcome(package), outcome(other)
    assert actual == expected, f"model {expected}, package {actual}, at the end of {list(trace)}"
    return actual


HELD = {
    "fp_state": (lambda vcpu: vcpu.fp_state.name, lambda other: other.fp_state),
    "max_vq": (lambda vcpu: vcpu.max_vq, lambda other: other.max_vq),
    "svcr": (lambda vcpu: vcpu.svcr, lambda other: other.regs.get(model.SVCR, 0)),
    "sve_state": (lambda vcpu: bytes(vcpu.sve_state), lambda other: other.sve_state),
    "sme_state": (lambda vcpu: bytes(vcpu.sme_state), lambda other: other.sme_state),
    "vregs": (lambda vcpu: bytes(vcpu.vregs), lambda other: other.vregs),
    "FPMR": (lambda vcpu: vcpu.sysregs.get(regid.FPMR, 0), lambda other: other.regs.get(regid.FPMR, 0)),
    "FPSR": (lambda vcpu: vcpu.fpsr, lambda other: other.fpsr),
    "FPCR": (lambda vcpu: vcpu.fpcr, lambda other: other.fpcr),
}


def reordered(host: model.Host, reg_id: int, data: bytes) -> bytes:
    """Numbers are little-endian in the package, and in the byte order of the host in the model."""
    vector = reg_id >> 16 & 0xFFF in (0x15, 0x17) or reg_id in model.CORE_V
    if host.byteorder == "little" or (vector and reg_id not in model.VLS_ID):
        return data
    unit = min(model.width(reg_id), 8)
    return b"".join(data[at : at + unit][::-1] for at in range(0, len(data), unit))


class Twin:
    """One vCPU as the package and as the model have it."""

    def __init__(self, vcpu: Vcpu, other: model.Vcpu, trace: deque[Any]) -> None:
        self.vcpu = vcpu
        self.other = other
        self.trace = trace
        self.oopsed = False
        self.by_mode = isinstance(other, model_by_mode.Vcpu)

    def both(self, what: tuple[Any, ...], package: Callable[[], Any], other: Callable[[], Any]) -> Any:
        """The outcome of one call, which is the same on both sides."""
        actual = agree(self.trace, (self.other.index, *what), package, other)
        self.oopsed |= actual == "oops"
        return actual

    def compare(self) -> None:
        """All that the kernel holds of the vCPU is the same on both sides."""
        for name, (package, other) in HELD.items():
            actual, expected = package(self.vcpu), other(self.other)
            assert actual == expected, f"{name}: model {expected}, package {actual}, after {list(self.trace)}"

    def count(self) -> int:
        """How many entries the list has, if there is one."""
        try:
            return len(self.other.reg_list()) + self.other.unwritten
        except model.Refused:
            return 0

    def list(self, n: int | None = None) -> None:
        """The list, and how many entries it counts beyond."""
        self.both(
            ("reg_list", n),
            lambda: (self.vcpu.get_reg_list(n), self.vcpu.listing.unwritten),
            lambda: (self.other.reg_list(n), self.other.unwritten),
        )

    def get(self, reg_id: int) -> None:
        self.both(
            ("get", hex(reg_id)),
            lambda: self.vcpu.get_one_reg(reg_id),
            lambda: self.reordered(reg_id, self.other.get(reg_id)),
        )

    def set(self, reg_id: int, data: bytes) -> None:
        vectors = (0x10, 0x15) if self.other.host.revision.startswith("mainline") else (0x10, 0x15, 0x17)
        if reg_id not in self.other.host.other_ids and reg_id >> 16 & 0xFFF not in vectors:
            data = data.ljust(max(8, model.width(reg_id)), b"\0")
        self.both(
            ("set", hex(reg_id), len(data), data[:16].hex()),
            lambda: self.vcpu.set_one_reg(reg_id, data),
            lambda: self.other.set(reg_id, self.reordered(reg_id, data)),
        )

    def reordered(self, reg_id: int, data: bytes) -> bytes:
        return reordered(self.other.host, reg_id, data)
