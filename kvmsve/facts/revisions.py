"""Facts: the revisions of the ABI that have a name. A new revision is a new value.

Source: rfc-v2.md (sections 1, 6 and 8; R1 to R5 are its repairs) and abi-revisions.md; where the recordings of a
revision differ from the texts, they decide.
"""

from __future__ import annotations

from . import regid
from .abi import Abi, RegList, SmidrRule, SvcrWrite, UserFormat, ViewRule, Za, ZaGate

MAINLINE_6_1 = Abi(
    name="mainline-6.1",
    summary="Linux 6.1, SVE only; vCPUs of one VM may have different features",
    max_features=7,
    one_feature_set_per_vm=False,
    id_regs_writable=False,
    has_fpmr=False,
)
MAINLINE_6_12 = Abi(name="mainline-6.12", summary="Linux 6.12, SVE only", max_features=7)
MAINLINE_7_3 = Abi(name="mainline-7.3", summary="Linux 7.3, SVE only", max_features=10, imp_id_cap=239)

RFC_V2_POSTED = Abi(
    name="rfc-v2-posted",
    summary="RFC v2 of the SME series as mailed: SME cannot be enabled",
    max_features=8,
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
    max_features=9,
    imp_id_cap=239,
    sme_feature=8,
    sme_cap=239,
    sme_vls=regid.SME_VLS_FFFF,
    reset_zeroes_sme_only=False,
    view=ViewRule.BY_MODE,
    zp_needs_sve=True,
    za=Za(ZaGate.EINVAL_LAST, vq_bias=-1, row_modulus=32, get_writes=True),
    id_regs_gate=True,
    pfr1_sme_writable=False,
    smidr=SmidrRule.PER_VCPU,
)
V4 = V3._replace(
    name="v4",
    summary="14 Feb 2025: as v3, and ID_AA64PFR1_EL1.SME can be lowered; SME beside EL2",
    pfr1_sme_writable=True,
    sme_with_el2=True,
)
V5 = V4._replace(
    name="v5",
    summary="17 Apr 2025: a SET of SVCR flushes what SMSTART and SMSTOP would",
    max_features=10,
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
    reg_list=RegList.SME_STATIC,
)
V11 = V10._replace(
    name="v11",
    summary="9 Jul 2026: the register list follows SVCR; ZA rows have 8-bit numbers",
    sme_cap=None,
    za=Za(ZaGate.EBUSY_FIRST, window_modulus=256, row_modulus=256),
    zt0_allocation_bytes=64,
    zfr0_with_sme=True,
    smidr=SmidrRule.PER_SME_VM,
    reg_list=RegList.BY_SVCR,
)
V12 = V11._replace(name="v12", summary="9 Jul 2026: v11 sent again")
NEXT = V12

REVISIONS: dict[str, Abi] = {
    revision.name: revision
    for revision in (
        RFC_V2, RFC_V2_R123, RFC_V2_R1, RFC_V2_POSTED, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12,
        MAINLINE_6_1, MAINLINE_6_12, MAINLINE_7_3,
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
