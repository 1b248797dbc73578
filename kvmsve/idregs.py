"""ID registers of a VM: what a vCPU sees of them, and which writes are taken.

Source: arch/arm64/kvm/sys_regs.c, set_id_reg(), arm64_check_features(); arch/arm64/kernel/cpufeature.c (the fields);
rfc-v2.md 1.4, abi-revisions.md 6.8 and 11A.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from . import regid
from .abi import Abi
from .errors import KvmError, check_number
from .mutex import Mutex, serialised
from .sysreg import ALL_BITS
from .views import VectorLengths


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
    sve_mask: int = 0  # the bits that read as zero without SVE
    sme_mask: int = 0  # and without SME

    def takes(self, value: int, limit: int) -> bool:
        """Whether each field is safe beside the limit, and everything between the fields the same."""
        for field in self.fields:
            new, old = field.read(value), field.read(limit)
            if new > old if field.compare is Compare.LOWER_SAFE else new not in (0, old):
                return False
        outside = ~sum(((1 << field.width) - 1) << field.shift for field in self.fields)
        return value & outside == limit & outside


PFR0_SVE = 0xF << 32
PFR1_SME = 0xF << 24


def _lower_safe(*shifts: int) -> tuple[IdField, ...]:
    return tuple(IdField(shift, 4, Compare.LOWER_SAFE) for shift in shifts)


def _exact(*fields: tuple[int, int]) -> tuple[IdField, ...]:
    return tuple(IdField(shift, width, Compare.EXACT) for shift, width in fields)


PFR1_SME_SHIFT = 24
PFR1_SME2 = 2
PFR2_FPMR = 1 << 32
PFR2_FPMR_FIELD = 0xF << 32
SMFR0_FA64 = 1 << 63
ID_REGS = {
    regid.ID_AA64PFR0_EL1: IdReg(_lower_safe(0, 4, 8, 12, 36, 48, 56, 60), sve_mask=PFR0_SVE),
    regid.ID_AA64PFR1_EL1: IdReg(_lower_safe(0, 4, PFR1_SME_SHIFT), sme_mask=PFR1_SME),
    regid.ID_AA64PFR2_EL1: IdReg(_lower_safe(32)),
    regid.ID_AA64ZFR0_EL1: IdReg(_lower_safe(0, 4, 12, 16, 20, 24, 32, 40, 44, 48, 52, 56), sve_mask=ALL_BITS),
    regid.ID_AA64SMFR0_EL1: IdReg(
        _exact((63, 1), (56, 4), (52, 4), (48, 1), (44, 4), (43, 1), (42, 1), (36, 4))
        + _exact((35, 1), (34, 1), (33, 1), (32, 1))
        + _exact((60, 1), (41, 1), (40, 1), (30, 1), (29, 1), (28, 1), (24, 1), (23, 1), (0, 1)),
        sme_mask=ALL_BITS,
    ),
}
SMIDR_MASK = 0x0FFF_FFFF_FFFF_6FFF  # NSMC, HIP, AFFINITY2, IMPLEMENTER, REVISION, SH, AFFINITY


def id_regs(abi: Abi) -> dict[int, IdReg]:
    """The ID registers as a revision has them."""
    found = dict(ID_REGS)
    if not abi.has_fpmr:
        del found[regid.ID_AA64PFR2_EL1]
    if not abi.pfr1_sme_writable:
        pfr1 = found[regid.ID_AA64PFR1_EL1]
        writable = tuple(field for field in pfr1.fields if field.shift != PFR1_SME_SHIFT)
        found[regid.ID_AA64PFR1_EL1] = pfr1._replace(fields=writable)
    return found


def host_id_regs(has_sve: bool, has_sme: bool, sme2: bool, fa64: bool, fpmr: bool) -> dict[int, int]:
    """The ID registers of a host of which nothing more is known."""
    el0_el1_aarch64 = 0x11
    return {
        regid.ID_AA64PFR0_EL1: el0_el1_aarch64 | int(has_sve) << 32,
        regid.ID_AA64PFR1_EL1: (1 + sme2 if has_sme else 0) << PFR1_SME_SHIFT,
        regid.ID_AA64PFR2_EL1: PFR2_FPMR if fpmr else 0,
        regid.ID_AA64ZFR0_EL1: int(has_sve),
        regid.ID_AA64SMFR0_EL1: (SMFR0_FA64 if fa64 else 0) | int(sme2) << 56 if has_sme else 0,
        regid.SMIDR_EL1: 0,
    }


def checked_values(values: Mapping[int, int]) -> dict[int, int]:
    """Values of registers by ID, as ints that fit them and 64 bits; TypeError or ValueError."""
    ids = {check_number("an ID register's ID", reg_id, 0, 1 << 64): value for reg_id, value in dict(values).items()}
    return {
        reg_id: check_number(f"ID register 0x{reg_id:016x}", value, 0, 1 << min(64, 8 * regid.size_bytes(reg_id)))
        for reg_id, value in ids.items()
    }


class IdRegs:
    """The ID registers of one VM: the host's values until userspace changes them, fixed once a vCPU has run.

    Source: set_id_reg(), arm64_check_features(), set_imp_id_reg(); rfc-v2.md 1.4, abi-revisions.md 6.8 and 11A.
    """

    def __init__(self, abi: Abi, host_values: Mapping[int, int]) -> None:
        self._rules = id_regs(abi)
        self.host_values = host_values
        self._values = dict(host_values)
        self._zfr0_with_sme = abi.zfr0_with_sme
        self._writable = abi.id_regs_writable
        self.imp_id_writable = False  # KVM_CAP_ARM_WRITABLE_IMP_ID_REGS
        self.fixed = False
        self._mutex = Mutex()  # kvm->arch.config_lock

    @property
    def other_host_values(self) -> dict[int, int]:
        """The host's values of registers that each vCPU has for itself."""
        return {reg_id: value for reg_id, value in self.host_values.items() if reg_id not in self}

    def __contains__(self, reg_id: int) -> bool:
        return reg_id in self._rules

    def read(self, reg_id: int, lengths: VectorLengths) -> int:
        """The value as a vCPU with these features sees it."""
        return self._limit(reg_id, self._values[reg_id], lengths)

    @serialised
    def fix(self) -> None:
        """No register takes another value: a vCPU of the VM runs."""
        self.fixed = True

    @serialised
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
        limit = self._limit(reg_id, self.host_values[reg_id], lengths)
        if not self._rules[reg_id].takes(value, limit):
            raise KvmError(errno.EINVAL, f"{name}: 0x{value:016x} is not within 0x{limit:016x}")
        self._values[reg_id] = value

    @property
    def smidr(self) -> int:
        """SMIDR_EL1 of the VM."""
        return self._values[regid.SMIDR_EL1]

    @serialised
    def write_smidr(self, value: int) -> None:
        """SMIDR_EL1 of the VM is this.

        The present value is always taken. Another: EINVAL without KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, EBUSY once a vCPU
        of the VM has run, EINVAL for bits outside SMIDR_MASK.
        """
        if value == self.smidr:
            return
        if not self.imp_id_writable:
            raise KvmError(errno.EINVAL, "SMIDR_EL1: read-only without KVM_CAP_ARM_WRITABLE_IMP_ID_REGS")
        if self.fixed:
            raise KvmError(errno.EBUSY, "SMIDR_EL1: fixed since a vCPU of the VM has run")
        if value & ~SMIDR_MASK:
            raise KvmError(errno.EINVAL, f"SMIDR_EL1: 0x{value:016x} has bits outside 0x{SMIDR_MASK:016x}")
        self._values[regid.SMIDR_EL1] = value

    @property
    def has_sme2(self) -> bool:
        """ID_AA64PFR1_EL1 says SME2."""
        return self._values[regid.ID_AA64PFR1_EL1] >> PFR1_SME_SHIFT & 0xF >= PFR1_SME2

    @property
    def has_fa64(self) -> bool:
        """ID_AA64SMFR0_EL1 says FA64."""
        return bool(self._values[regid.ID_AA64SMFR0_EL1] & SMFR0_FA64)

    @property
    def has_fpmr(self) -> bool:
        """ID_AA64PFR2_EL1 says FPMR."""
        return bool(self._values[regid.ID_AA64PFR2_EL1] & PFR2_FPMR_FIELD)

    def _limit(self, reg_id: int, value: int, lengths: VectorLengths) -> int:
        rule = self._rules[reg_id]
        if reg_id == regid.ID_AA64ZFR0_EL1 and self._zfr0_with_sme:
            return value if lengths.has_vec else 0
        if not lengths.sve_vq:
            value &= ~rule.sve_mask
        return value if lengths.sme_vq else value & ~rule.sme_mask
