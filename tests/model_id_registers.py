"""Which values an ID register takes, for the models: written from the kernel's text and from real kernels' answers.

The masks of writable bits are those that KVM_ARM_GET_REG_WRITABLE_MASKS gave (tests/kernels.py); for RFC v2 those of
6.12, but for what section 1.4 of rfc-v2.md and the sources of 6.7 have otherwise. Fields: cpufeature.c of arm64.
"""

from functools import cache

import kernels

SYSREG = 0x6030_0000_0013_0000
PFR0, PFR1, PFR2, ZFR0, SMFR0, FPFR0, DFR0 = (
    SYSREG | low for low in (0xC020, 0xC021, 0xC022, 0xC024, 0xC025, 0xC027, 0xC028)
)
ISAR1, ISAR2, MMFR0, MMFR1, MMFR3 = (SYSREG | low for low in (0xC031, 0xC032, 0xC038, 0xC039, 0xC03B))
AA32_DFR0, AA32_MMFR0, AA32_MMFR4, CTR = (SYSREG | low for low in (0xC00A, 0xC00C, 0xC016, 0xD801))
ID_SPACE = frozenset(range(SYSREG | 0xC008, SYSREG | 0xC040))
NOT_OF_THE_VM = {SYSREG | low for low in (0xC000, 0xC006, 0xC801, 0xC807)}

SIGNED = {(AA32_MMFR0, 8), (AA32_MMFR0, 28), (DFR0, 36), (MMFR0, 24), (MMFR0, 28)}
HIGHER = {(AA32_MMFR4, 0), (MMFR1, 24)}
GRANULES_OF_STAGE_2 = {(MMFR0, 32), (MMFR0, 36), (MMFR0, 40)}
SMFR0_NIBBLES = (36, 44, 52, 56)
SMFR0_BITS = (0, 23, 24, 28, 29, 30, 32, 33, 34, 35, 40, 41, 42, 43, 48, 60, 63)
FPFR0_BITS = (0, 1, 2, 3, 4, 5, 6, 7, 15, 26, 27, 28, 29, 30, 31)
SME_OF_PFR1 = 0xF << 24


def hidden(reg_id: int, features: int) -> int:
    """What a vCPU without the PMU, or without pointer authentication, does not see."""
    without_pmu = 0 if features >> 3 & 1 else {AA32_DFR0: 0xF << 24, DFR0: 0xF << 8}.get(reg_id, 0)
    without_keys = 0 if features >> 5 & 3 == 3 else {ISAR1: 0xFF00_0FF0, ISAR2: 0xFF00}.get(reg_id, 0)
    return without_pmu | without_keys


@cache
def rules(revision: str, kernel: str | None) -> "Rules":
    return Rules(revision, kernel)


class Rules:
    """The ID registers of a revision's VM; `kernel` is the mainline that it is, None: a posting of the series."""

    def __init__(self, revision: str, kernel: str | None) -> None:
        self.writable = _writable(revision, kernel)
        self.registers = ID_SPACE | ({CTR} & self.writable.keys())
        self.is_7 = kernel in ("7.2", "7.3") or revision.startswith("v")
        self.has_floors = kernel != "6.1"

    def takes(self, reg_id: int, value: int, limit: int) -> bool:
        """Every field is safe, and the bits of no writable field are the limit's."""
        settled = 0
        for shift, width in _fields(reg_id):
            bits = (1 << width) - 1
            if bits << shift & ~self.writable.get(reg_id, 0):
                continue
            if not _safe(reg_id, shift, width, value >> shift & bits, limit >> shift & bits):
                return False
            settled |= bits << shift
        return (value ^ limit) & ~settled == 0 and self._is_high_enough(reg_id, value)

    def _is_high_enough(self, reg_id: int, value: int) -> bool:
        """Debug is v8's at least, a PMU v3's or none, and from 7.2 on EL0 and EL1 are there."""
        if reg_id == DFR0:
            return not self.has_floors or value & 15 >= 6
        if reg_id == AA32_DFR0:
            return not self.has_floors or (value & 15 >= 6 and value >> 24 & 15 not in (1, 2))
        if reg_id == PFR0 and self.is_7:
            return bool(value & 15) and bool(value >> 4 & 15)
        return True


def _writable(revision: str, kernel: str | None) -> dict[int, int]:
    if kernel == "6.1":
        return {PFR0: 0xFF << 56}  # CSV2, CSV3
    masks = kernels.writable_masks(kernel or ("6.12" if revision.startswith("rfc") else "7.3"))
    masks = {reg_id: mask for reg_id, mask in masks.items() if reg_id not in NOT_OF_THE_VM}
    if kernel is not None:
        return masks
    masks[SMFR0] = (1 << 64) - 1
    if revision != "v3":
        masks[PFR1] |= SME_OF_PFR1
    if revision.startswith("rfc"):
        for absent in (CTR, PFR2, FPFR0):
            del masks[absent]
        masks |= {
            PFR0: 0xFF0F_00F0_0000_FFFF, PFR1: SME_OF_PFR1 | 0xFF, DFR0: 0xF0F, MMFR3: 0xF0F,
            ZFR0: kernels.writable_masks("7.3")[ZFR0],
        }  # fmt: skip
    return masks


def _fields(reg_id: int) -> list[tuple[int, int]]:
    """Shift and width of each field."""
    if reg_id == SMFR0:
        return [*((shift, 4) for shift in SMFR0_NIBBLES), *((bit, 1) for bit in SMFR0_BITS)]
    if reg_id == FPFR0:
        return [(bit, 1) for bit in FPFR0_BITS]
    if reg_id == CTR:
        return [(0, 4), (14, 2), (16, 4), (28, 1), (29, 1)]
    return [(shift, 4) for shift in range(0, 64, 4)]


def _safe(reg_id: int, shift: int, width: int, new: int, limit: int) -> bool:
    if reg_id in (SMFR0, FPFR0):
        return new in (0, limit)
    if (reg_id, shift) == (CTR, 14):
        return new in (2, limit)
    if (reg_id, shift) in GRANULES_OF_STAGE_2:
        return new in (1, limit)
    if (reg_id, shift) in HIGHER:
        return new >= limit
    if (reg_id, shift) in SIGNED:
        return (new - 16 if new > 7 else new) <= (limit - 16 if limit > 7 else limit)
    return new <= limit
