"""What is kept of a register list."""

from __future__ import annotations

from ..facts import regid
from ..rules import reglist
from .outcome import Op

KEPT_IDS = {
    *reglist.VREGS, regid.FPSR, regid.FPCR, *reglist.SVE_BLOCK,
    regid.ID_AA64ZFR0_EL1, regid.ID_AA64SMFR0_EL1, regid.ZCR_EL1,
}  # fmt: skip
KEPT_SME_SYSREGS = {regid.SMCR_EL1, regid.SMIDR_EL1, regid.SVCR, regid.FPMR, regid.TPIDR2_EL0}


def summarize(listed: list[int], with_sme: bool) -> Op:
    """What a recording keeps of a register list: counts by kind, and the IDs that concern vectors."""
    kept = KEPT_IDS | KEPT_SME_SYSREGS if with_sme else KEPT_IDS
    return {
        "core": sum(regid.coproc(reg_id) == regid.CORE for reg_id in listed),
        "sve": sum(regid.coproc(reg_id) == regid.SVE for reg_id in listed),
        "sme": sum(regid.coproc(reg_id) == regid.SME for reg_id in listed),
        "ids": [
            f"{reg_id:016x}" for reg_id in listed if reg_id in kept or (with_sme and regid.coproc(reg_id) == regid.SME)
        ],
    }
