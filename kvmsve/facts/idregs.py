"""Facts: ID registers: their fields, what a vCPU's features show of them, and which bits a kernel lets userspace write.

Fields: arch/arm64/kernel/cpufeature.c, ftr_id_*[]. Masks: what KVM_ARM_GET_REG_WRITABLE_MASKS of real kernels says
(tests/tables/id-registers.json); those of 6.1 and 6.7 as their sources have them (arch/arm64/kvm/sys_regs.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from . import regid


class Compare(Enum):
    """How the field of a written ID register stands to the host's."""

    LOWER_SAFE = auto()  # anything up to the host's value
    SIGNED_LOWER_SAFE = auto()  # the same of signed numbers: values with the top bit set are below 0
    HIGHER_SAFE = auto()  # anything from the host's value on
    EXACT = auto()  # the host's value, or the one that is safe everywhere


class IdField(NamedTuple):
    shift: int
    width: int
    compare: Compare
    safe: int = 0

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.shift

    def read(self, value: int) -> int:
        return value >> self.shift & ((1 << self.width) - 1)


Masks = tuple[tuple[int, int], ...]


def _masks(by_name: Mapping[str, int]) -> Masks:
    return tuple((regid.BY_NAME[name], mask) for name, mask in by_name.items())


def _lower(*shifts: int) -> tuple[IdField, ...]:
    return tuple(IdField(shift, 4, Compare.LOWER_SAFE) for shift in shifts)


def _exact(*fields: tuple[int, int], safe: int = 0) -> tuple[IdField, ...]:
    return tuple(IdField(shift, width, Compare.EXACT, safe) for shift, width in fields)


def _signed(*shifts: int) -> tuple[IdField, ...]:
    return tuple(IdField(shift, 4, Compare.SIGNED_LOWER_SAFE) for shift in shifts)


def _higher(*shifts: int) -> tuple[IdField, ...]:
    return tuple(IdField(shift, 4, Compare.HIGHER_SAFE) for shift in shifts)


_BITS_OF_FPFR0 = (*range(8), 15, *range(26, 32))
_BITS_OF_SMFR0 = (0, 23, 24, 28, 29, 30, 32, 33, 34, 35, 40, 41, 42, 43, 48, 60, 63)
_FIELDS = {  # beside these a register has unsigned fields of four bits, the lower the safer
    "ID_MMFR0_EL1": _signed(8, 28),
    "ID_MMFR4_EL1": _higher(0),
    "ID_AA64DFR0_EL1": _signed(36),
    "ID_AA64MMFR0_EL1": (*_signed(24, 28), *_exact((32, 4), (36, 4), (40, 4), safe=1)),
    "ID_AA64MMFR1_EL1": _higher(24),
    "ID_AA64FPFR0_EL1": _exact(*((bit, 1) for bit in _BITS_OF_FPFR0)),
    "ID_AA64SMFR0_EL1": _exact((56, 4), (52, 4), (44, 4), (36, 4), *((bit, 1) for bit in _BITS_OF_SMFR0)),
    "CTR_EL0": (
        *_exact((14, 2), safe=2),
        *_lower(0, 16),
        *(IdField(bit, 1, Compare.LOWER_SAFE) for bit in (28, 29)),
    ),
}
FIELDS = {regid.BY_NAME[name]: fields for name, fields in _FIELDS.items()}
_EVERY_NIBBLE = _lower(*range(0, 64, 4))


def fields(reg_id: int, writable: int) -> tuple[IdField, ...]:
    """The fields of a register of which every bit is writable."""
    special = FIELDS.get(reg_id, ())
    taken = sum(field.mask for field in special)
    others = (field for field in _EVERY_NIBBLE if not field.mask & taken)
    return tuple(field for field in (*special, *others) if field.mask & ~writable == 0)


_AARCH32 = dict.fromkeys(
    (
        "ID_PFR0_EL1", "ID_PFR1_EL1", "ID_PFR2_EL1", "ID_DFR0_EL1", "ID_MMFR0_EL1", "ID_MMFR1_EL1", "ID_MMFR2_EL1",
        "ID_MMFR3_EL1", "ID_MMFR4_EL1", "ID_MMFR5_EL1", "ID_ISAR0_EL1", "ID_ISAR1_EL1", "ID_ISAR2_EL1", "ID_ISAR3_EL1",
        "ID_ISAR4_EL1", "ID_ISAR5_EL1", "ID_ISAR6_EL1", "MVFR0_EL1", "MVFR1_EL1", "MVFR2_EL1",
    ),
    0xFFFF_FFFF,
)  # fmt: skip
_LINUX_6_7 = _AARCH32 | {
    "ID_AA64PFR0_EL1": 0xFF0F_00F0_0000_FFFF,
    "ID_AA64ZFR0_EL1": 0x0FFF_FF0F_0FFF_F0FF,
    "ID_AA64DFR0_EL1": 0x0F0F,
    "ID_AA64ISAR0_EL1": 0xFFFF_FFFF_FFFF_FFF0,
    "ID_AA64ISAR1_EL1": 0xFFFF_FFFF_00FF_F00F,
    "ID_AA64ISAR2_EL1": 0xFFFF_0FFF_FFFF_00FF,
    "ID_AA64MMFR0_EL1": 0xFF00_F000_FFFF_FF0F,
    "ID_AA64MMFR1_EL1": 0xFFFF_F0F0_0FFF_F00F,
    "ID_AA64MMFR2_EL1": 0xF0FF_000F_F00F_FFFF,
    "ID_AA64MMFR3_EL1": 0x0F0F,
}
_LINUX_6_12 = _LINUX_6_7 | {
    "ID_AA64PFR0_EL1": 0xFFFF_00F0_0F00_FFFF,
    "ID_AA64PFR1_EL1": 0x000F_0000_00FF,
    "ID_AA64PFR2_EL1": 0x000F_0000_0000,
    "ID_AA64ZFR0_EL1": 0x0FF0_FF0F_0FFF_00FF,
    "ID_AA64FPFR0_EL1": 0xF000_0003,
    "ID_AA64DFR0_EL1": 0x00F0_00F0_0F0F,
    "ID_AA64MMFR3_EL1": 0x000F_0F0F,
    "CLIDR_EL1": 0x7FFF_FFFF_FFFF,
    "CTR_EL0": 0x300F_000F,
}
_LINUX_7_2 = _LINUX_6_12 | {
    "MIDR_EL1": 0xFFFF_FFFF,
    "REVIDR_EL1": 0xFFFF_FFFF_FFFF_FFFF,
    "AIDR_EL1": 0xFFFF_FFFF_FFFF_FFFF,
    "ID_AA64PFR0_EL1": 0xFFFF_00F0_FF00_FFFF,
    "ID_AA64PFR1_EL1": 0x0F00_000F_0000_F0FF,
    "ID_AA64PFR2_EL1": 0x000F_0000_FFF0,
    "ID_AA64ZFR0_EL1": 0x0FFF_FF0F_0FFF_F0FF,
    "ID_AA64FPFR0_EL1": 0xFC00_80FF,
    "ID_AA64ISAR0_EL1": 0xFFFF_FFFF_F0FF_FFF0,
    "ID_AA64ISAR2_EL1": 0xFFFF_FFFF_FFFF_00FF,
    "ID_AA64ISAR3_EL1": 0xFF0F_00F0,
    "ID_AA64MMFR0_EL1": 0xFF00_FFFF_FFFF_FF0F,
    "ID_AA64MMFR1_EL1": 0xFFFF_FFFF_0FFF_F00F,
    "ID_AA64MMFR3_EL1": 0x000F_0FFF,
    "ID_AA64MMFR4_EL1": 0x00F0_0000,
    "CTR_EL0": 0x300F_C00F,
}
_SMFR0 = {"ID_AA64SMFR0_EL1": sum(field.mask for field in FIELDS[regid.ID_AA64SMFR0_EL1])}
_PFR1_SME = 0xF << 24
MASKS_6_1 = _masks({"ID_AA64PFR0_EL1": 0xFF00_0000_0000_0000})  # CSV2 and CSV3
MASKS_6_12 = _masks(_LINUX_6_12)
MASKS_7_2 = _masks(_LINUX_7_2)
MASKS_RFC_V2 = _masks(_LINUX_6_7 | _SMFR0 | {"ID_AA64PFR1_EL1": _PFR1_SME | 0xFF})
MASKS_V3 = _masks(_LINUX_7_2 | _SMFR0)
MASKS_V4 = _masks(_LINUX_7_2 | _SMFR0 | {"ID_AA64PFR1_EL1": _LINUX_7_2["ID_AA64PFR1_EL1"] | _PFR1_SME})


class Floor(NamedTuple):
    """A field that takes no less than `least`; but 0, where `or_zero`."""

    reg_id: int
    field: IdField
    least: int
    or_zero: bool = False


def _floor(name: str, shift: int, least: int, *, or_zero: bool = False) -> Floor:
    return Floor(regid.BY_NAME[name], IdField(shift, 4, Compare.LOWER_SAFE), least, or_zero)


DEBUG_FLOORS = (  # debug architecture v8 at least, and PMUv3 or none
    _floor("ID_DFR0_EL1", 0, 6),
    _floor("ID_DFR0_EL1", 24, 3, or_zero=True),
    _floor("ID_AA64DFR0_EL1", 0, 6),
)
FLOORS_7_2 = (*DEBUG_FLOORS, _floor("ID_AA64PFR0_EL1", 0, 1), _floor("ID_AA64PFR0_EL1", 4, 1))  # EL0 and EL1


class Shown(Enum):
    """What a vCPU must have to see a part of an ID register."""

    SVE = auto()
    SME = auto()
    SVE_OR_SME = auto()
    PMU = auto()
    POINTER_AUTHENTICATION = auto()


def _shown() -> Iterable[tuple[str, int, Shown]]:
    yield "ID_AA64PFR0_EL1", 0xF << 32, Shown.SVE
    yield "ID_AA64PFR1_EL1", _PFR1_SME, Shown.SME
    yield "ID_AA64SMFR0_EL1", -1, Shown.SME
    yield "ID_DFR0_EL1", 0xF << 24, Shown.PMU
    yield "ID_AA64DFR0_EL1", 0xF << 8, Shown.PMU
    yield "ID_AA64ISAR1_EL1", 0xFF00_0FF0, Shown.POINTER_AUTHENTICATION
    yield "ID_AA64ISAR2_EL1", 0xFF00, Shown.POINTER_AUTHENTICATION


SHOWN = {regid.BY_NAME[name]: (mask, needed) for name, mask, needed in _shown()}
