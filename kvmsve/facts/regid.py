"""Facts: register IDs, their names, and the VLS bitmaps.

An ID is arch | log2(size) << 52 | coprocessor << 16 | payload. Source: include/uapi/linux/kvm.h and
arch/arm64/include/uapi/asm/kvm.h; rfc-v2.md sections 1.2 to 1.4.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import check_number
from . import sysregs
from .layout import FFR, NUM_PREGS, NUM_ZREGS, VQ_ABI_MAX

ARM64 = 0x6000_0000_0000_0000
SIZE_SHIFT = 52
SIZE_MASK = 0xF << SIZE_SHIFT
COPROC_SHIFT = 16
COPROC_MASK = 0xFFF << COPROC_SHIFT

U32, U64, U128, U256, U512, U2048 = (code << SIZE_SHIFT for code in (2, 3, 4, 5, 6, 8))

CORE, DEMUX, SYSREG, FW, SVE, FW_FEAT_BMAP, SME = (
    coproc << COPROC_SHIFT for coproc in (0x10, 0x11, 0x13, 0x14, 0x15, 0x16, 0x17)
)
COPROC_NAMES = {
    CORE: "core", DEMUX: "demux", SYSREG: "sysreg", FW: "firmware", SVE: "SVE",
    FW_FEAT_BMAP: "firmware bitmap", SME: "SME",
}  # fmt: skip

SLICE_MASK = 0x1F
NUM_SHIFT = 5
NUM_MASK = 0x1F << NUM_SHIFT

SVE_VLS = ARM64 | U512 | SVE | 0xFFFF
ZREG_BASE = ARM64 | U2048 | SVE
PREG_BASE = ARM64 | U256 | SVE | 0x400
FFR_ID = PREG_BASE | FFR << NUM_SHIFT
ZREG_MAX = ZREG_BASE | (NUM_ZREGS - 1) << NUM_SHIFT | SLICE_MASK
PREG_MAX = FFR_ID | SLICE_MASK
ZA_BASE = ARM64 | U2048 | SME
SME_VLS_FFFF = ARM64 | U512 | SME | 0xFFFF
SME_VLS_FFFE = ARM64 | U512 | SME | 0xFFFE
ZT0 = ARM64 | U512 | SME | 0x600

VREG_BASE = ARM64 | U128 | CORE | 0x54
FPSR = ARM64 | U32 | CORE | 0xD4
FPCR = ARM64 | U32 | CORE | 0xD5


def sysreg_id(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """The ID of a system register by its encoding; ValueError for a field that has more bits than the encoding's."""
    if op0 >> 2 or op1 >> 3 or crn >> 4 or crm >> 4 or op2 >> 3:
        raise ValueError(
            f"an encoding is op0 0 to 3, op1 0 to 7, CRn and CRm 0 to 15, op2 0 to 7, not {op0, op1, crn, crm, op2}"
        )
    return ARM64 | U64 | SYSREG | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


MPIDR_EL1 = sysreg_id(3, 0, 0, 0, 5)
ID_AA64PFR0_EL1 = sysreg_id(3, 0, 0, 4, 0)
ID_AA64PFR1_EL1 = sysreg_id(3, 0, 0, 4, 1)
ID_AA64PFR2_EL1 = sysreg_id(3, 0, 0, 4, 2)
ID_AA64ZFR0_EL1 = sysreg_id(3, 0, 0, 4, 4)
ID_AA64SMFR0_EL1 = sysreg_id(3, 0, 0, 4, 5)
CPACR_EL1 = sysreg_id(3, 0, 1, 0, 2)
ZCR_EL1 = sysreg_id(3, 0, 1, 2, 0)
SMPRI_EL1 = sysreg_id(3, 0, 1, 2, 4)
SMCR_EL1 = sysreg_id(3, 0, 1, 2, 6)
SMIDR_EL1 = sysreg_id(3, 1, 0, 0, 6)
SVCR = sysreg_id(3, 3, 4, 2, 2)
TPIDR2_EL0 = sysreg_id(3, 3, 13, 0, 5)
FPMR = sysreg_id(3, 3, 4, 4, 2)
ZCR_EL2 = sysreg_id(3, 4, 1, 2, 0)
SMPRIMAP_EL2 = sysreg_id(3, 4, 1, 2, 5)
SMCR_EL2 = sysreg_id(3, 4, 1, 2, 6)


def _ids(*groups: dict[str, sysregs.Encoding]) -> dict[int, str]:
    return {sysreg_id(*encoding): name for group in groups for name, encoding in group.items()}


TIMERS = _ids(sysregs.TIMERS)
IMPLEMENTATION = _ids(sysregs.IMPLEMENTATION)
PLAIN_SYSREGS = _ids(sysregs.DEBUG, sysregs.PLAIN)
ID_SPACE = _ids(sysregs.ID_SPACE) | {sysreg_id(*encoding): name for encoding, name in sysregs.ID_NAMES.items()}
TCR2, S1PIE, SCTLR2 = map(_ids, (sysregs.TCR2, sysregs.S1PIE, sysregs.SCTLR2))
TCR2_EL2, S1PIE_EL2, SCTLR2_EL2 = map(_ids, (sysregs.TCR2_EL2, sysregs.S1PIE_EL2, sysregs.SCTLR2_EL2))
POINTER_AUTHENTICATION, PMU, PMMIR, EL2 = map(
    _ids, (sysregs.POINTER_AUTHENTICATION, sysregs.PMU, sysregs.PMMIR, sysregs.EL2)
)
OTHER_SYSREGS = (
    TIMERS | IMPLEMENTATION | PLAIN_SYSREGS | ID_SPACE | TCR2 | S1PIE | SCTLR2 | TCR2_EL2 | S1PIE_EL2 | SCTLR2_EL2
    | POINTER_AUTHENTICATION | PMU | PMMIR | EL2
)  # fmt: skip
BY_NAME = {name: reg_id for reg_id, name in OTHER_SYSREGS.items()}


ZA_ROWS = 1 << 11  # that the number field of an ID has room for; ZA has 256 at most


def zreg_id(n: int, slice_: int = 0) -> int:
    """The ID of Z[n]; ValueError for a number or a slice that there cannot be."""
    return ZREG_BASE | _number("a Z register", n, NUM_ZREGS) << NUM_SHIFT | _slice(slice_)


def preg_id(n: int, slice_: int = 0) -> int:
    """The ID of P[n]; n = 16 is FFR. ValueError as zreg_id."""
    return PREG_BASE + (_number("a P register", n, FFR + 1) << NUM_SHIFT) | _slice(slice_)


def vreg_id(n: int) -> int:
    """The ID of V[n]; ValueError as zreg_id."""
    return VREG_BASE + 4 * _number("a V register", n, NUM_ZREGS)


def za_row_id(row: int, slice_: int = 0) -> int:
    """The ID of ZA.H[row]; a vCPU has 16 rows for each quadword of its streaming length. ValueError as zreg_id."""
    return ZA_BASE | _number("a row of ZA", row, ZA_ROWS) << NUM_SHIFT | _slice(slice_)


def _number(what: str, n: int, count: int) -> int:
    return check_number(what, n, 0, count)


def _slice(slice_: int) -> int:
    return check_number("a slice", slice_, 0, SLICE_MASK + 1)


def is_za_row(reg_id: int) -> bool:
    """The ID has the form of a row of ZA, whether or not there is such a row."""
    return reg_id >> 32 == ZA_BASE >> 32 and coproc(reg_id) == SME


def za_row_of(reg_id: int) -> int:
    """The number field of an ID that has this form."""
    return (reg_id & 0xFFFF) >> NUM_SHIFT


def size_bytes(reg_id: int) -> int:
    """The register's size by its ID alone: what a user buffer is expected to hold."""
    return 1 << ((reg_id & SIZE_MASK) >> SIZE_SHIFT)


def coproc(reg_id: int) -> int:
    return reg_id & COPROC_MASK


def slice_of(reg_id: int) -> int:
    return reg_id & SLICE_MASK


def number_of(reg_id: int) -> int:
    """The register number field of an SVE ID; a predicate's is 16 for FFR."""
    return (reg_id & NUM_MASK) >> NUM_SHIFT


def _names() -> dict[int, str]:
    core = {ARM64 | U64 | CORE | 2 * n: f"X{n}" for n in range(31)}
    for slot, name in ((0x3E, "SP"), (0x40, "PC"), (0x42, "PSTATE"), (0x44, "SP_EL1"), (0x46, "ELR_EL1")):
        core[ARM64 | U64 | CORE | slot] = name
    core |= {ARM64 | U64 | CORE | 0x48 + 2 * n: f"SPSR[{n}]" for n in range(5)}
    core |= {vreg_id(n): f"V{n}" for n in range(NUM_ZREGS)}
    vectors = {zreg_id(n): f"Z{n}" for n in range(NUM_ZREGS)}
    vectors |= {preg_id(n): f"P{n}" for n in range(NUM_PREGS)}
    sysregs = {
        ID_AA64PFR0_EL1: "ID_AA64PFR0_EL1", ID_AA64PFR1_EL1: "ID_AA64PFR1_EL1",
        ID_AA64PFR2_EL1: "ID_AA64PFR2_EL1", ID_AA64ZFR0_EL1: "ID_AA64ZFR0_EL1",
        ID_AA64SMFR0_EL1: "ID_AA64SMFR0_EL1", CPACR_EL1: "CPACR_EL1", ZCR_EL1: "ZCR_EL1", SMPRI_EL1: "SMPRI_EL1",
        SMCR_EL1: "SMCR_EL1", SMIDR_EL1: "SMIDR_EL1", SVCR: "SVCR", TPIDR2_EL0: "TPIDR2_EL0", FPMR: "FPMR",
        ZCR_EL2: "ZCR_EL2", SMPRIMAP_EL2: "SMPRIMAP_EL2", SMCR_EL2: "SMCR_EL2",
    }  # fmt: skip
    named = {FPSR: "FPSR", FPCR: "FPCR", SVE_VLS: "SVE_VLS", FFR_ID: "FFR", ZT0: "ZT0"}
    return OTHER_SYSREGS | core | vectors | named | sysregs


NAMES = _names()


def name(reg_id: int, sme_vls: int | None = None) -> str:
    """The register's name; for an ID that names none, what its fields say.

    `sme_vls` is the revision's ID of SME_VLS, which moved; without one both are called so.
    """
    if reg_id in NAMES:
        return NAMES[reg_id]
    if reg_id == sme_vls or (sme_vls is None and reg_id in (SME_VLS_FFFF, SME_VLS_FFFE)):
        return "SME_VLS"
    if is_za_row(reg_id):
        return _with_slice(f"ZA.H[{za_row_of(reg_id)}]", reg_id)
    if ZREG_BASE <= reg_id <= ZREG_MAX or PREG_BASE <= reg_id <= PREG_MAX:
        return _with_slice(NAMES[reg_id & ~SLICE_MASK], reg_id)
    if reg_id >> 32 == (ARM64 | U64) >> 32 and coproc(reg_id) == SYSREG:
        fields = (reg_id >> 14 & 3, reg_id >> 11 & 7, reg_id >> 7 & 15, reg_id >> 3 & 15, reg_id & 7)
        return "S{}_{}_C{}_C{}_{}".format(*fields)
    return f"{COPROC_NAMES.get(coproc(reg_id), 'unknown')} 0x{reg_id:016x}"


class Name(int):
    """A register ID that is written as its name."""

    def __str__(self) -> str:
        return name(int(self))

    def __format__(self, _: str) -> str:
        return name(int(self))


def _with_slice(register: str, reg_id: int) -> str:
    return f"{register} slice {slice_of(reg_id)}" if slice_of(reg_id) else register


def pack_vls(vqs: Iterable[int]) -> bytes:
    """The 64 bytes of a VLS pseudo-register: bit vq-1 is set for each vq; ValueError for one beyond 1 to 512."""
    lengths = {check_number("a length in quadwords", vq, 1, VQ_ABI_MAX + 1) for vq in vqs}
    return sum(1 << (vq - 1) for vq in lengths).to_bytes(VQ_ABI_MAX // 8, "little")


def unpack_vls(bitmap: bytes) -> frozenset[int]:
    """The set of vq (1..512) that a VLS bitmap names."""
    bits = int.from_bytes(bitmap, "little") % (1 << VQ_ABI_MAX)
    return frozenset(vq for vq in range(1, bits.bit_length() + 1) if bits >> (vq - 1) & 1)
