"""Rules: the ID registers that say something of vectors, their fields, and which values those take.

Source: arch/arm64/kvm/sys_regs.c, set_id_reg(), arm64_check_features(); arch/arm64/kernel/cpufeature.c (the fields);
rfc-v2.md 1.4, abi-revisions.md 6.8 and 11A.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from ..errors import check_number
from ..facts import Abi, regid
from .sysreg import ALL_BITS


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
