"""What a vCPU holds at one moment, as its guest would find it at the next KVM_RUN.

A vector register has one ID here, that of Z[n]: V[n] is its low 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import KvmError
from ..facts import NUM_PREGS, NUM_ZREGS, SVCR_SM, SVCR_ZA, Abi, layout, regid
from ..machine import FpState, Vcpu
from ..rules import FPSIMD, VectorLengths, guest_vq, sysreg

VREG_TO_ZREG = {regid.vreg_id(n): regid.zreg_id(n) for n in range(NUM_ZREGS)}
CONTROL_REGS = {reg_id: reg for reg_id, reg in sysreg.CONTROL_REGS.items() if reg_id != regid.SMIDR_EL1}

Registers = Mapping[int, bytes]


def canonical(reg_id: int) -> int:
    """The ID under which a register stands here."""
    return VREG_TO_ZREG.get(reg_id, reg_id)


@dataclass(frozen=True)
class Snapshot:
    """A copy of what the kernel holds of a vCPU, and the register list that it would give."""

    abi: Abi
    lengths: VectorLengths
    fp_state: FpState
    fpsr: int
    fpcr: int
    sysregs: Mapping[int, int]
    sve_state: bytes
    sme_state: bytes
    vregs: bytes
    vls: Registers
    list_order: tuple[int, ...]

    @cached_property
    def listed(self) -> frozenset[int]:
        """What the register list names."""
        return frozenset(self.list_order)

    @property
    def svcr(self) -> int:
        return self.sysregs[regid.SVCR]

    @property
    def is_streaming(self) -> bool:
        return bool(self.svcr & SVCR_SM)

    @property
    def za_is_on(self) -> bool:
        return bool(self.svcr & SVCR_ZA)

    @cached_property
    def registers(self) -> Registers:
        """Every register that the guest has in its present mode, at that mode's length."""
        return dict((*self._vectors(), *self._matrix(), *self._controls(), *self.vls.items()))

    @cached_property
    def live(self) -> Registers:
        """Those in which a fresh vCPU would have another value."""
        return {reg_id: data for reg_id, data in self.registers.items() if not _is_fresh(reg_id, data)}

    def name(self, reg_id: int) -> str:
        """The register's name; V where the guest has no more of Z."""
        name = regid.name(reg_id, self.abi.sme_vls)
        is_v = regid.ZREG_BASE <= reg_id <= regid.ZREG_MAX and self._vq == FPSIMD
        return f"V{name[1:]}" if is_v else name

    @property
    def _vq(self) -> int:
        return guest_vq(self.lengths, self.svcr) if self.sve_state else FPSIMD

    def _vectors(self) -> Iterator[tuple[int, bytes]]:
        vq = self._vq
        in_user_format = self.fp_state is FpState.USER_OWNED and self.sve_state
        laid_out_for = self.lengths.max_vq if in_user_format else vq
        state, stride = (self.sve_state, layout.zreg_bytes(laid_out_for)) if laid_out_for else (self.vregs, 16)
        size = layout.zreg_bytes(vq) or layout.VREG_BYTES
        yield from ((regid.zreg_id(n), state[n * stride : n * stride + size]) for n in range(NUM_ZREGS))
        if vq == FPSIMD:
            return
        for n in range(NUM_PREGS + 1):
            start = layout.preg_offset(laid_out_for, n)
            yield regid.preg_id(n), state[start : start + layout.preg_bytes(vq)]

    def _matrix(self) -> Iterator[tuple[int, bytes]]:
        if not self.za_is_on or not self.sme_state:
            return
        size = layout.zreg_bytes(self.lengths.sme_vq)
        yield from ((regid.za_row_id(row), self.sme_state[row * size : (row + 1) * size]) for row in range(size))
        if len(self.sme_state) > size * size:
            yield regid.ZT0, self.sme_state[size * size :][: layout.ZT0_BYTES]

    def _controls(self) -> Iterator[tuple[int, bytes]]:
        yield regid.FPSR, self.fpsr.to_bytes(4, "little")
        yield regid.FPCR, self.fpcr.to_bytes(4, "little")
        yield from ((reg_id, self.sysregs[reg_id].to_bytes(8, "little")) for reg_id in CONTROL_REGS)


def take(vcpu: Vcpu, last: Snapshot | None) -> Snapshot:
    """What the vCPU holds now; what has not changed is shared with `last`."""
    listed = vcpu.listing.ids
    held: dict[str, Any] = {
        "abi": vcpu.abi,
        "lengths": vcpu.lengths,
        "fp_state": vcpu.fp_state,
        "fpsr": vcpu.fpsr,
        "fpcr": vcpu.fpcr,
        "sysregs": dict(vcpu.sysregs),
        "sve_state": bytes(vcpu.sve_state),
        "sme_state": bytes(vcpu.sme_state),
        "vregs": bytes(vcpu.vregs),
        "vls": last.vls if last is not None and last.lengths == vcpu.lengths else dict(_vls(vcpu)),
        "list_order": listed,
    }
    if last is None:
        return Snapshot(**held)
    shared = {name: old if (old := getattr(last, name)) == new else new for name, new in held.items()}
    return last if all(new is getattr(last, name) for name, new in shared.items()) else Snapshot(**shared)


def _vls(vcpu: Vcpu) -> Iterator[tuple[int, bytes]]:
    for reg_id in vcpu.abi.vls_ids:
        try:
            yield reg_id, vcpu.get_one_reg(reg_id)
        except KvmError:
            continue


def _is_fresh(reg_id: int, data: bytes) -> bool:
    reset = CONTROL_REGS[reg_id].reset if reg_id in CONTROL_REGS else 0
    return int.from_bytes(data, "little") == reset
