"""What is kept of a register list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..facts import regid
from ..rules import reglist

KEPT_IDS = {
    *reglist.VREGS, regid.FPSR, regid.FPCR, *reglist.SVE_BLOCK,
    regid.ID_AA64ZFR0_EL1, regid.ID_AA64SMFR0_EL1, regid.ZCR_EL1,
}  # fmt: skip
KEPT_SME_SYSREGS = {regid.SMCR_EL1, regid.SMIDR_EL1, regid.SVCR, regid.FPMR, regid.TPIDR2_EL0}


class Summary(NamedTuple):
    """How many core, SVE and SME registers a list names, and those of its IDs that concern vectors."""

    core: int
    sve: int
    sme: int
    ids: list[int]


def summarize(listed: Sequence[int], with_sme: bool) -> Summary:
    """What a recording keeps of a register list; before the SME series it kept none of SME's."""
    kept = KEPT_IDS | KEPT_SME_SYSREGS if with_sme else KEPT_IDS
    kinds = [regid.coproc(reg_id) for reg_id in listed]
    ids = [
        reg_id for reg_id, kind in zip(listed, kinds, strict=True) if reg_id in kept or (with_sme and kind == regid.SME)
    ]
    return Summary(kinds.count(regid.CORE), kinds.count(regid.SVE), kinds.count(regid.SME), ids)
