"""Rules: what a vCPU sees of the VM's ID registers, and which values they take.

Source: arch/arm64/kvm/sys_regs.c, set_id_reg(), arm64_check_features(), set_id_aa64pfr0_el1(), set_id_aa64dfr0_el1();
rfc-v2.md 1.4, abi-revisions.md 6.8 and 11A.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..errors import check_number
from ..facts import PTRAUTH, Abi, Compare, Feature, IdField, Shown, bits, idregs, regid
from .views import VectorLengths

PFR1_SME_SHIFT = 24
PFR1_SME = 0xF << PFR1_SME_SHIFT
PFR1_SME2 = 2
PFR2_FPMR = 1 << 32
PFR2_FPMR_FIELD = 0xF << 32
SMFR0_FA64 = 1 << 63
VECTOR_ID_REGS = (
    regid.ID_AA64PFR0_EL1, regid.ID_AA64PFR1_EL1, regid.ID_AA64PFR2_EL1, regid.ID_AA64ZFR0_EL1, regid.ID_AA64SMFR0_EL1,
)  # fmt: skip
MMFR3 = regid.BY_NAME["ID_AA64MMFR3_EL1"]
CTR_EL0 = regid.BY_NAME["CTR_EL0"]


class IdReg(NamedTuple):
    """An ID register: the fields that can be written, and what a vCPU must have to see a part of it."""

    fields: tuple[IdField, ...]
    floors: tuple[idregs.Floor, ...] = ()
    part: int = 0  # the bits that read as zero without `needed`
    needed: Shown | None = None

    def takes(self, value: int, limit: int) -> bool:
        """Whether each field is safe beside the limit, and everything between the fields the same."""
        outside = ~sum(field.mask for field in self.fields)
        return (
            value & outside == limit & outside
            and all(_is_safe(field, field.read(value), field.read(limit)) for field in self.fields)
            and all(_is_enough(floor, floor.field.read(value)) for floor in self.floors)
        )


def _is_safe(field: IdField, new: int, limit: int) -> bool:
    match field.compare:
        case Compare.LOWER_SAFE:
            return new <= limit
        case Compare.SIGNED_LOWER_SAFE:
            sign = 1 << field.width - 1
            return (new ^ sign) <= (limit ^ sign)
        case Compare.HIGHER_SAFE:
            return new >= limit
        case Compare.EXACT:
            return new in (limit, field.safe)


def _is_enough(floor: idregs.Floor, new: int) -> bool:
    return new >= floor.least or (floor.or_zero and new == 0)


@lru_cache
def id_regs(abi: Abi) -> dict[int, IdReg]:
    """The ID registers of a VM as a revision has them."""
    masks = dict(abi.id_masks)
    known = {*regid.ID_SPACE} | ({CTR_EL0} & masks.keys())
    return {reg_id: _id_reg(abi, reg_id, masks.get(reg_id, 0)) for reg_id in known}


def _id_reg(abi: Abi, reg_id: int, mask: int) -> IdReg:
    floors = tuple(floor for floor in abi.id_floors if floor.reg_id == reg_id)
    part, needed = idregs.SHOWN.get(reg_id, (0, None))
    if reg_id == regid.ID_AA64ZFR0_EL1:
        part, needed = -1, Shown.SVE_OR_SME if abi.zfr0_with_sme else Shown.SVE
    return IdReg(idregs.fields(reg_id, mask), floors, part, needed)


def shows(needed: Shown, lengths: VectorLengths, features: int) -> bool:
    """Whether such a vCPU sees a part of an ID register."""
    match needed:
        case Shown.SVE:
            return lengths.sve_vq > 0
        case Shown.SME:
            return lengths.sme_vq > 0
        case Shown.SVE_OR_SME:
            return lengths.has_vec
        case Shown.PMU:
            return bool(features & bits(Feature.PMU_V3))
        case Shown.POINTER_AUTHENTICATION:
            return features & PTRAUTH == PTRAUTH


SMIDR_MASK = 0x0FFF_FFFF_FFFF_6FFF  # NSMC, HIP, AFFINITY2, IMPLEMENTER, REVISION, SH, AFFINITY


def imp_id_masks(abi: Abi) -> dict[int, int]:
    """The implementation ID registers of a VM, with the bits that can be written once that is enabled."""
    masks = dict(abi.id_masks)
    found = {reg_id: masks.get(reg_id, 0) for reg_id in regid.IMPLEMENTATION}
    return found | ({regid.SMIDR_EL1: SMIDR_MASK} if abi.smidr.is_the_vms else {})


def host_id_regs(has_sve: bool, has_sme: bool, sme2: bool, fa64: bool, fpmr: bool) -> dict[int, int]:
    """The ID registers of a host of which nothing more is known."""
    el0_el1_aarch64 = 0x11
    return {
        regid.ID_AA64PFR0_EL1: el0_el1_aarch64 | int(has_sve) << 32,
        regid.ID_AA64PFR1_EL1: (1 + sme2 if has_sme else 0) << PFR1_SME_SHIFT,
        regid.ID_AA64PFR2_EL1: PFR2_FPMR if fpmr else 0,
        regid.ID_AA64ZFR0_EL1: int(has_sve or has_sme),
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
