"""Rules and effects of a SET of SVCR, of which the revisions have two: a plain store, and a flush.

Source: the table entry of SVCR in sys_regs.c; rfc-v2.md 3.3, abi-revisions.md 6.3.
"""

from __future__ import annotations

import errno

from ..errors import KvmError
from ..facts import SVCR_SM, SVCR_ZA, SvcrWrite, layout, regid
from .regfile import RegFile


def write_svcr(rule: SvcrWrite, regs: RegFile, value: int) -> None:
    """SVCR is `value` with the effects that the revision gives it; EINVAL for RES0 bits where it checks them."""
    if rule is SvcrWrite.FLUSH:
        _flush(regs, value)
    regs.sysregs[regid.SVCR] = value


def _flush(regs: RegFile, value: int) -> None:
    """What SMSTART and SMSTOP would zero is zero; before FINALIZE there is only V to zero."""
    if value & ~(SVCR_SM | SVCR_ZA):
        raise KvmError(errno.EINVAL, "SVCR: only SM and ZA can be set")
    changed = regs.sysregs[regid.SVCR] ^ value
    if changed & value & SVCR_ZA:
        regs.sme_state.clear()
    if changed & SVCR_SM:
        regs.clear_vregs()
        regs.sve_state.clear()
        regs.sysregs[regid.FPMR] = 0
        regs.fpsr = layout.FPSR_AFTER_MODE_SWITCH
