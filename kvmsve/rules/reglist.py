"""Rules: the registers that a vCPU lists, in the kernel's order (KVM_GET_REG_LIST).

Those with no vector meaning are those of a kernel's age (Abi.other_regs) and of the vCPU's features, without MTE.
Source: kvm_arm_copy_reg_indices(); rfc-v2.md 2.7, rfc-v2-reglist.tsv, and the lists of real kernels.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

from ..facts import FFR, NUM_PREGS, NUM_ZREGS, Abi, OtherRegs, RegList, regid, zreg_bytes
from . import sysreg
from .onereg import KVM_REGS_SLOTS, Reach, core_reg_size

_SIZE_CODES = {4: regid.U32, 8: regid.U64, 16: regid.U128}

CORE_REGS = tuple(
    regid.ARM64 | _SIZE_CODES[size] | regid.CORE | slot
    for slot in range(KVM_REGS_SLOTS)
    if (size := core_reg_size(slot))
)
VREGS = frozenset(regid.vreg_id(n) for n in range(NUM_ZREGS))
ZREGS = tuple(regid.zreg_id(n) for n in range(NUM_ZREGS))
PREGS = tuple(regid.preg_id(n) for n in range(NUM_PREGS))
SVE_BLOCK = (regid.SVE_VLS, *ZREGS, *PREGS, regid.preg_id(FFR))

FW_REGS = tuple(regid.ARM64 | regid.U64 | regid.FW | n for n in range(4))
FW_BITMAPS = tuple(regid.ARM64 | regid.U64 | regid.FW_FEAT_BMAP | n for n in range(4))
CCSIDRS = tuple(regid.ARM64 | regid.U32 | regid.DEMUX | n for n in range(14))
_SYSREGS = {
    *regid.TIMERS, *regid.IMPLEMENTATION, *regid.PLAIN_SYSREGS, *regid.ID_SPACE, *sysreg.GATED_REGS,
}  # fmt: skip
_TIMER_CNT, _TIMER_CVAL = regid.BY_NAME["TIMER_CNT"], regid.BY_NAME["TIMER_CVAL"]
_SORTED_AS = {_TIMER_CNT: _TIMER_CVAL, _TIMER_CVAL: _TIMER_CNT}  # userspace's IDs of these two are each the other's


@lru_cache
def in_order(other: OtherRegs) -> tuple[int, ...]:
    """Every register beside core and vectors that such a kernel may list, in its order."""
    later = sorted(_SYSREGS - other.absent - {*other.first}, key=lambda reg_id: _SORTED_AS.get(reg_id, reg_id))
    return (*FW_REGS, *FW_BITMAPS[: other.fw_bitmaps], *other.first, *later, *(CCSIDRS[n] for n in other.ccsidrs))


@lru_cache
def known(other: OtherRegs) -> frozenset[int]:
    """The same as a set."""
    return frozenset(in_order(other))


def gate(reg_id: int) -> sysreg.Gate:
    """What a vCPU must have for one of these registers to be there."""
    return sysreg.GATED_REGS.get(reg_id, sysreg.PLAIN).gate


def other_regs(abi: Abi, gates: Container[sysreg.Gate]) -> tuple[int, ...]:
    """What comes behind core and vector registers in the list of a vCPU that passes these gates."""
    return tuple(reg_id for reg_id in in_order(abi.other_regs) if gate(reg_id) in gates)


_BESIDE_VECTORS = {regid.SYSREG, regid.FW, regid.FW_FEAT_BMAP, regid.DEMUX}


def is_beside_vectors(reg_id: int) -> bool:
    """The register says nothing of vectors, nor of the CPU: timers, translation, debug, firmware and the like."""
    is_known = reg_id in sysreg.CONTROL_REGS or reg_id in regid.ID_SPACE or reg_id in regid.IMPLEMENTATION
    return regid.coproc(reg_id) in _BESIDE_VECTORS and not is_known


class Listing(NamedTuple):
    """A register list: its IDs, and how many more entries the kernel counts than it writes."""

    ids: tuple[int, ...]
    unwritten: int = 0

    @property
    def n(self) -> int:
        """What the kernel counts."""
        return len(self.ids) + self.unwritten


def listing(reach: Reach, gates: frozenset[sysreg.Gate]) -> Listing:
    """What the kernel of a revision lists of a vCPU."""
    core = (reg_id for reg_id in CORE_REGS if reach.view.has_v or reg_id not in VREGS)
    sve_block, unwritten = _sve_block(reach)
    return Listing((*core, *sve_block, *_sme_block(reach), *other_regs(reach.abi, gates)), unwritten)


def _sve_block(reach: Reach) -> tuple[tuple[int, ...], int]:
    abi, view = reach.abi, reach.view
    registers = (*ZREGS, *PREGS, *((regid.FFR_ID,) if view.has_ffr else ()))
    if abi.reg_list is RegList.BY_SVCR:
        vls = (regid.SVE_VLS,) if reach.lengths.sve_vq else ()
        return ((*vls, *registers) if view.has_zp else ()), 0
    if reach.lengths.sve_vq:
        return SVE_BLOCK, 0
    return (), len(registers) if abi.reg_list is RegList.SME_STATIC and view.has_zp else 0


def _sme_block(reach: Reach) -> tuple[int, ...]:
    abi, sme_vq = reach.abi, reach.lengths.sme_vq
    if abi.reg_list is RegList.SVE or not sme_vq:
        return ()
    vls = () if abi.sme_vls is None else (abi.sme_vls,)
    if abi.reg_list is RegList.BY_SVCR and not reach.za_is_on:
        return vls
    rows = (regid.za_row_id(row) for row in range(zreg_bytes(sme_vq)))
    return (*vls, *rows, *((regid.ZT0,) if reach.has_sme2 else ()))
