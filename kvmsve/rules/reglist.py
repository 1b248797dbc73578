"""Facts: the registers that a vCPU lists, in the kernel's order (KVM_GET_REG_LIST).

Those with no vector meaning are the ones of v6.7-rc3, without PMU, pointer authentication, MTE and nested
virtualisation, for every revision. Source: kvm_arm_copy_reg_indices(); rfc-v2.md 2.7 and rfc-v2-reglist.tsv.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from ..facts import FFR, NUM_PREGS, NUM_ZREGS, RegList, regid, zreg_bytes
from . import idregs, sysreg
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

FIRMWARE = tuple(
    regid.ARM64 | regid.U64 | coproc | n
    for coproc, count in ((regid.FW, 4), (regid.FW_FEAT_BMAP, 3))
    for n in range(count)
)
CCSIDRS = tuple(regid.ARM64 | regid.U32 | regid.DEMUX | n for n in range(14))

_BREAKPOINTS = {regid.sysreg_id(2, 0, 0, n, op2) for n in range(16) for op2 in range(4, 8)}
_ID_SPACE = {regid.sysreg_id(3, 0, 0, crm, op2) for crm in range(1, 8) for op2 in range(8)}
SYSREGS = tuple(sorted({*_BREAKPOINTS, *_ID_SPACE, *regid.OTHER_SYSREGS, *sysreg.CONTROL_REGS}))

PLAIN_REGS = frozenset({*FIRMWARE, *regid.TIMERS, *regid.INVARIANTS, *SYSREGS, *CCSIDRS}) - {
    *sysreg.CONTROL_REGS, *(idregs.ID_REGS.keys() - {regid.ID_AA64PFR2_EL1}),
}  # fmt: skip


def other_regs(gates: Container[sysreg.Gate]) -> tuple[int, ...]:
    """What comes behind core and vector registers in the list of a vCPU that passes these gates."""
    sysregs = (reg_id for reg_id in SYSREGS if sysreg.CONTROL_REGS.get(reg_id, sysreg.PLAIN).gate in gates)
    return (*FIRMWARE, *regid.TIMERS, *regid.INVARIANTS, *sysregs, *CCSIDRS)


OTHER_REGS = other_regs({sysreg.Gate.ALWAYS})


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
    return Listing((*core, *sve_block, *_sme_block(reach), *other_regs(gates)), unwritten)


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
