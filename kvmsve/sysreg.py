"""System registers: which ones a vCPU has, what they hold after a reset, and which ID register writes are taken.

Source: arch/arm64/kvm/sys_regs.c; rfc-v2.md sections 1.4 and 3.3.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from . import regid
from .errors import KvmError
from .onereg import VectorLengths

UNKNOWN = 0x1DE7_EC7E_DBAD_C0DE  # what KVM puts into a register whose reset value the architecture leaves open


class Gate(Enum):
    """Which vCPUs have a register."""

    ALWAYS = auto()
    SVE = auto()
    SME = auto()


class SysReg(NamedTuple):
    gate: Gate = Gate.ALWAYS
    reset: int = 0
    keeps_writes: bool = True  # else a SET succeeds without effect


PLAIN = SysReg()
CONTROL_REGS = {
    regid.CPACR_EL1: SysReg(),
    regid.ZCR_EL1: SysReg(Gate.SVE),
    regid.SMCR_EL1: SysReg(Gate.SME),
    regid.SMIDR_EL1: SysReg(Gate.SME, keeps_writes=False),
    regid.SVCR: SysReg(Gate.SME),
    regid.TPIDR2_EL0: SysReg(Gate.SME, reset=UNKNOWN),
}


def is_visible(sysreg: SysReg, lengths: VectorLengths) -> bool:
    if sysreg.gate is Gate.SVE:
        return lengths.sve_vq > 0
    return sysreg.gate is Gate.ALWAYS or lengths.sme_vq > 0


class Compare(Enum):
    """How the field of a written ID register stands to the host's."""

    LOWER_SAFE = auto()  # anything up to the host's value
    EXACT = auto()  # the host's value or 0


class IdField(NamedTuple):
    shift: int
    width: int
    compare: Compare

    def read(self, value: int) -> int:
        return value >> self.shift & ((1 << self.width) - 1)


class IdReg(NamedTuple):
    """An ID register that says something of SVE or SME, and what of it userspace may write."""

    fields: tuple[IdField, ...]
    sve_mask: int  # the bits that read as zero without SVE
    sme_mask: int  # and without SME

    def limit(self, host_value: int, lengths: VectorLengths) -> int:
        """The host's value as a vCPU of these features may have it at the most."""
        if not lengths.sve_vq:
            host_value &= ~self.sve_mask
        if not lengths.sme_vq:
            host_value &= ~self.sme_mask
        return host_value

    def takes(self, value: int, limit: int) -> bool:
        """Whether each field is safe beside the limit, and everything between the fields the same."""
        for field in self.fields:
            new, old = field.read(value), field.read(limit)
            if new > old if field.compare is Compare.LOWER_SAFE else new not in (0, old):
                return False
        outside = ~sum(((1 << field.width) - 1) << field.shift for field in self.fields)
        return value & outside == limit & outside


ALL_BITS = (1 << 64) - 1
PFR0_SVE = 0xF << 32
PFR1_SME = 0xF << 24


def _lower_safe(*shifts: int) -> tuple[IdField, ...]:
    return tuple(IdField(shift, 4, Compare.LOWER_SAFE) for shift in shifts)


def _exact(*fields: tuple[int, int]) -> tuple[IdField, ...]:
    return tuple(IdField(shift, width, Compare.EXACT) for shift, width in fields)


ID_REGS = {
    regid.ID_AA64PFR0_EL1: IdReg(_lower_safe(0, 4, 8, 12, 36, 48, 56, 60), sve_mask=PFR0_SVE, sme_mask=0),
    regid.ID_AA64PFR1_EL1: IdReg(_lower_safe(0, 4, 24), sve_mask=0, sme_mask=PFR1_SME),
    regid.ID_AA64ZFR0_EL1: IdReg(_lower_safe(0, 4, 16, 20, 32, 40, 44, 52, 56), sve_mask=ALL_BITS, sme_mask=0),
    regid.ID_AA64SMFR0_EL1: IdReg(
        _exact((63, 1), (56, 4), (52, 4), (48, 1), (44, 4), (43, 1), (42, 1), (36, 4))
        + _exact((35, 1), (34, 1), (33, 1), (32, 1)),
        sve_mask=0,
        sme_mask=ALL_BITS,
    ),
}


def host_id_regs(has_sve: bool, has_sme: bool, sme2: bool, fa64: bool) -> dict[int, int]:
    """The ID registers of a host of which nothing more is known."""
    el0_el1_aarch64 = 0x11
    smfr0 = int(fa64) << 63 | int(sme2) << 56 if has_sme else 0
    return {
        regid.ID_AA64PFR0_EL1: el0_el1_aarch64 | int(has_sve) << 32,
        regid.ID_AA64PFR1_EL1: (1 + sme2 if has_sme else 0) << 24,
        regid.ID_AA64ZFR0_EL1: int(has_sve),
        regid.ID_AA64SMFR0_EL1: smfr0,
    }


class IdRegs:
    """The ID registers of one VM: the host's values until userspace lowers them, fixed once a vCPU has run.

    Source: set_id_reg(), arm64_check_features(); rfc-v2.md 1.4.
    """

    def __init__(self, host_values: Mapping[int, int], writable: bool) -> None:
        self._host_values = host_values
        self._values = dict(host_values)
        self._writable = writable
        self.fixed = False

    def read(self, reg_id: int, lengths: VectorLengths) -> int:
        """The value as a vCPU with these features sees it."""
        return ID_REGS[reg_id].limit(self._values[reg_id], lengths)

    def write(self, reg_id: int, value: int, lengths: VectorLengths) -> None:
        """The register has this value for every vCPU of the VM.

        The present value is always taken. Another: EINVAL where the kernel has the register read-only, EBUSY once a
        vCPU of the VM has run, EINVAL for a value that promises more than the host or changes what is fixed.
        """
        if value == self.read(reg_id, lengths):
            return
        name = regid.name(reg_id)
        if not self._writable:
            raise KvmError(errno.EINVAL, f"{name}: this kernel takes no value but the present one")
        if self.fixed:
            raise KvmError(errno.EBUSY, f"{name}: fixed since a vCPU of the VM has run")
        limit = ID_REGS[reg_id].limit(self._host_values[reg_id], lengths)
        if not ID_REGS[reg_id].takes(value, limit):
            raise KvmError(errno.EINVAL, f"{name}: 0x{value:016x} is not within 0x{limit:016x}")
        self._values[reg_id] = value
