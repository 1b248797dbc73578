"""Facts: the registers that a vCPU lists, in the kernel's order (KVM_GET_REG_LIST).

Those with no vector meaning are the ones of v6.7-rc3, without PMU, pointer authentication, MTE and nested
virtualisation, for every revision. Source: kvm_arm_copy_reg_indices(); rfc-v2.md 2.7 and rfc-v2-reglist.tsv.
"""

from __future__ import annotations

from . import regid, sysreg
from .layout import FFR, NUM_PREGS, NUM_ZREGS
from .onereg import KVM_REGS_SLOTS, VectorLengths, core_reg_size

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
    *sysreg.CONTROL_REGS, *sysreg.ID_REGS,
}  # fmt: skip

OTHER_REGS = (
    *FIRMWARE, *regid.TIMERS, *regid.INVARIANTS,
    *(reg_id for reg_id in SYSREGS if sysreg.CONTROL_REGS.get(reg_id, sysreg.PLAIN).gate is sysreg.Gate.ALWAYS),
    *CCSIDRS,
)  # fmt: skip


def listed(lengths: VectorLengths) -> tuple[int, ...]:
    """The IDs of a vCPU with these features; what a revision never lists (SME_VLS, ZA, ZT0) is not there."""
    core = (reg_id for reg_id in CORE_REGS if not (lengths.has_vec and reg_id in VREGS))
    vectors = SVE_BLOCK if lengths.sve_vq else ()
    sysregs = (
        reg_id for reg_id in SYSREGS if sysreg.is_visible(sysreg.CONTROL_REGS.get(reg_id, sysreg.PLAIN), lengths)
    )
    return (*core, *vectors, *FIRMWARE, *regid.TIMERS, *regid.INVARIANTS, *sysregs, *CCSIDRS)
