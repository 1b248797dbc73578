"""Facts: the revisions of the ABI that have a name. A new revision is a new value.

Source: rfc-v2.md (sections 1, 6 and 8; R1 to R5 are its repairs) and abi-revisions.md; where the recordings of a
revision differ from the texts, they decide.
"""

from __future__ import annotations

from . import idregs, regid
from .abi import Abi, OtherRegs, RegList, SmidrRule, SvcrWrite, UserFormat, ViewRule, Za, ZaGate

_IMPLEMENTATION = (*regid.IMPLEMENTATION, regid.BY_NAME["CTR_EL0"])
_SINCE_7_2 = frozenset({*regid.SCTLR2, *regid.SCTLR2_EL2})
_LISTED_6_1 = OtherRegs(
    fw_bitmaps=3,
    first=(
        *(regid.BY_NAME[name] for name in ("TIMER_CTL", "TIMER_CNT", "TIMER_CVAL")),
        *(regid.BY_NAME[name] for name in ("MIDR_EL1", "REVIDR_EL1", "CLIDR_EL1", "AIDR_EL1", "CTR_EL0")),
    ),
    absent=frozenset(
        {*_SINCE_7_2, *regid.TCR2, *regid.S1PIE, *regid.PMMIR}
        | {regid.BY_NAME[name] for name in ("PTIMER_CTL", "PTIMER_CNT", "PTIMER_CVAL")}
    ),
    ccsidrs=(0, 1, 2),  # those that the host's CLIDR_EL1 names: the recorded host's are these
)
_LISTED_6_7 = OtherRegs(
    fw_bitmaps=3, first=(*regid.TIMERS, *_IMPLEMENTATION), absent=frozenset({*_SINCE_7_2, *regid.PMMIR})
)
_LISTED_6_12 = _LISTED_6_7._replace(first=(*regid.TIMERS, *regid.IMPLEMENTATION))
_LISTED_7_2 = OtherRegs(fw_bitmaps=4, absent=frozenset(regid.PMMIR), by_id_regs=True)
_LISTED_7_3 = _LISTED_7_2._replace(absent=frozenset())

MAINLINE_6_1 = Abi(
    name="mainline-6.1",
    summary="Linux 6.1, SVE only; vCPUs of one VM may have different features",
    linux=(6, 1),
    max_features=7,
    other_regs=_LISTED_6_1,
    id_masks=idregs.MASKS_6_1,
    id_floors=(),
    one_feature_set_per_vm=False,
    id_regs_freeze=False,
    long_vcpu_index=False,
    has_fpmr=False,
)
MAINLINE_6_12 = Abi(
    name="mainline-6.12",
    summary="Linux 6.12, SVE only",
    linux=(6, 12),
    max_features=7,
    other_regs=_LISTED_6_12,
    id_masks=idregs.MASKS_6_12,
)
MAINLINE_7_2 = Abi(
    name="mainline-7.2",
    summary="Linux 7.2, SVE only; implementation ID registers are writable with capability 239",
    linux=(7, 2),
    max_features=9,
    other_regs=_LISTED_7_2,
    id_masks=idregs.MASKS_7_2,
    id_floors=idregs.FLOORS_7_2,
    has_e2h0=True,
    imp_id_cap=239,
)
MAINLINE_7_3 = MAINLINE_7_2._replace(
    name="mainline-7.3",
    summary="Linux 7.3, SVE only; a strict PMU feature",
    linux=(7, 3),
    max_features=10,
    other_regs=_LISTED_7_3,
    has_strict_pmu=True,
)
MAINLINE_7_4 = MAINLINE_7_3._replace(
    name="mainline-7.4",
    summary="as merged for Linux 7.4: a first KVM_RUN that fails fixes ID registers too",
    linux=(7, 4),
    failed_run_freezes=True,
)

RFC_V2_POSTED = Abi(
    name="rfc-v2-posted",
    summary="RFC v2 of the SME series as mailed: SME cannot be enabled",
    linux=(6, 7),
    max_features=8,
    other_regs=_LISTED_6_7,
    id_masks=idregs.MASKS_RFC_V2,
    el2_refuses_sve=True,
    has_fpmr=False,
    sme_feature=8,
    sme_cap=231,
    sme_vls=regid.SME_VLS_FFFF,
    init_checks_host_sme=False,
    sme_without_sve=False,
    reset_zeroes_sme_only=False,
    user_format=UserFormat.HOST_HAS_SME,
    za=Za(ZaGate.UNREACHABLE, vq_bias=-1),
    smidr=SmidrRule.OOPS,
)
RFC_V2_R1 = RFC_V2_POSTED._replace(
    name="rfc-v2-r1",
    summary="as posted, with the feature mask that lets SME be enabled (R1)",
    max_features=9,
)
RFC_V2_R123 = RFC_V2_R1._replace(
    name="rfc-v2-r123",
    summary="also: SME without SVE works, vCPUs without SME are never converted (R1 to R3)",
    sme_without_sve=True,
    user_format=UserFormat.VCPU_HAS_SME,
)
RFC_V2 = RFC_V2_R123._replace(
    name="rfc-v2",
    summary="RFC v2 as it was meant (R1 to R5): also ZA and ZT0, and a reset that clears everything",
    init_checks_host_sme=True,
    reset_zeroes_sme_only=True,
    za=Za(ZaGate.OPEN),
    zt0=regid.ZT0,
    smidr=SmidrRule.ZERO,
)

V3 = Abi(
    name="v3",
    summary="20 Dec 2024: the view follows SVCR.SM; a SET of SVCR is a plain store; ZA is read into",
    linux=(7, 3),
    max_features=9,
    other_regs=_LISTED_7_3,  # these are the recorded kernel's, on which v4 to v12 were put
    id_masks=idregs.MASKS_V3,
    id_floors=idregs.FLOORS_7_2,
    imp_id_cap=239,
    sme_feature=8,
    sme_cap=239,
    sme_vls=regid.SME_VLS_FFFF,
    reset_zeroes_sme_only=False,
    view=ViewRule.BY_MODE,
    zp_needs_sve=True,
    za=Za(ZaGate.EINVAL_LAST, vq_bias=-1, row_modulus=32, get_writes=True),
    id_regs_gate=True,
    smidr=SmidrRule.PER_VCPU,
)
V4 = V3._replace(
    name="v4",
    summary="14 Feb 2025: as v3, and ID_AA64PFR1_EL1.SME can be lowered; SME beside EL2",
    id_masks=idregs.MASKS_V4,
    sme_with_el2=True,
)
V5 = V4._replace(
    name="v5",
    summary="17 Apr 2025: a SET of SVCR flushes what SMSTART and SMSTOP would",
    max_features=10,
    has_e2h0=True,
    sme_feature=9,
    sme_cap=240,
    svcr_write=SvcrWrite.FLUSH,
)
V6 = V5._replace(name="v6", summary="25 Jun 2025: as v5", sme_cap=243)
V7 = V6._replace(
    name="v7",
    summary="22 Aug 2025: SMIDR_EL1 belongs to the VM",
    sme_cap=244,
    smidr=SmidrRule.PER_VM,
    smprimap_is_zero=True,
)
V8 = V7._replace(name="v8", summary="2 Sep 2025: as v7")
V9 = V8._replace(name="v9", summary="23 Dec 2025: SME_VLS has another ID", sme_cap=247, sme_vls=regid.SME_VLS_FFFE)
V10 = V9._replace(
    name="v10",
    summary="6 Mar 2026: ZA and ZT0 work and are listed; Z and P work without SVE; FFR needs FA64",
    sme_cap=248,
    reset_zeroes_sme_only=True,
    zp_needs_sve=False,
    ffr_needs_fa64=True,
    za=Za(ZaGate.EBUSY_FIRST, row_modulus=32),
    zt0=regid.ZT0,
    zfr0_with_sme=True,
    smidr=SmidrRule.PER_SME_VM_FROM_ZERO,
    reg_list=RegList.SME_STATIC,
)
V10_RECORDED = V10._replace(
    name="v10-recorded",
    summary="v10 as the kernel of its recordings has it: with the ID registers of v9",
    sme_cap=252,
    zfr0_with_sme=False,
    smidr=SmidrRule.PER_VM,
)
V11 = V10._replace(
    name="v11",
    summary="9 Jul 2026: the register list follows SVCR; ZA rows have 8-bit numbers",
    sme_cap=None,
    za=Za(ZaGate.EBUSY_FIRST, window_modulus=256, row_modulus=256),
    zt0_allocation_bytes=64,
    smidr=SmidrRule.PER_SME_VM,
    reg_list=RegList.BY_SVCR,
)
V12 = V11._replace(name="v12", summary="9 Jul 2026: v11 sent again")
NEXT = V12

REVISIONS: dict[str, Abi] = {
    revision.name: revision
    for revision in (
        RFC_V2, RFC_V2_R123, RFC_V2_R1, RFC_V2_POSTED, V3, V4, V5, V6, V7, V8, V9, V10, V10_RECORDED, V11, V12,
        MAINLINE_6_1, MAINLINE_6_12, MAINLINE_7_2, MAINLINE_7_3, MAINLINE_7_4,
    )
}  # fmt: skip


def abi(name: str) -> Abi:
    """The revision that recording headers call `name`; ValueError names the near ones."""
    if name in REVISIONS:
        return REVISIONS[name]
    import difflib

    near = difflib.get_close_matches(name, REVISIONS, n=1)
    hint = f"did you mean {near[0]}?" if near else "there are " + ", ".join(REVISIONS)
    raise ValueError(f"no revision is called {name!r}; {hint}")
