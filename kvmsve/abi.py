"""The revisions of the ABI, as frozen data: a rule reads a field, a new revision is a new value.

Source: rfc-v2.md (sections 1, 6 and 8; R1 to R5 are its repairs) and abi-revisions.md; where the recordings of a
revision differ from the texts, they decide.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from enum import Enum

from . import regid


class UserFormat(Enum):
    """Which vCPUs have their vector registers in another format for userspace than for the guest.

    The answer is always "no" where the SVE and the streaming length are equal.
    """

    NEVER = "no vCPU"
    HOST_HAS_SME = "every vCPU of a host with SME, even one that has no SME itself"
    VCPU_HAS_SME = "vCPUs with SME"


@dataclass(frozen=True, slots=True)
class ZaWindow:
    """The IDs that the kernel takes for ZA rows, and whether a row can be reached through them.

    The window has 16 * (streaming vq + vq_bias) rows, in unsigned arithmetic and modulo `row_modulus`.
    """

    vq_bias: int
    reachable: bool
    row_modulus: int = 8192


@dataclass(frozen=True, slots=True)
class Abi:
    """One revision of the register ABI. Numbers are the kernel's, None is what a revision does not have."""

    name: str
    summary: str
    max_features: int  # KVM_VCPU_MAX_FEATURES: a feature bit from here on is ENOENT
    one_feature_set_per_vm: bool = True  # else only a vCPU's own earlier INIT binds it
    id_regs_writable: bool = True  # before the VM first runs; else only the present value is taken

    sme_feature: int | None = None  # KVM_ARM_VCPU_SME
    sme_cap: int | None = None  # KVM_CAP_ARM_SME
    sme_vls: int | None = None  # the ID of the SME_VLS pseudo-register
    init_checks_host_sme: bool = True  # else INIT with SME succeeds on a host without, and the vCPU has none
    sme_without_sve: bool = True  # else a vCPU with SME alone cannot be finalized, nor its Z and P be reached
    reset_zeroes_sme_only: bool = True  # else a reset leaves sve_state of a vCPU without SVE as it was
    user_format: UserFormat = UserFormat.NEVER
    za_window: ZaWindow | None = None
    zt0: int | None = None  # the ID of ZT0, where it has one that works
    zt0_allocation_bytes: int = 512  # ZT0 has 512 bits: the series counted them as bytes
    smidr_get_oopses: bool = False  # SMIDR_EL1 is read 32 GiB past the VM

    @property
    def has_sme(self) -> bool:
        return self.sme_feature is not None


MAINLINE_6_1 = Abi(
    name="mainline-6.1",
    summary="Linux 6.1, SVE only; vCPUs of one VM may have different features",
    max_features=7,
    one_feature_set_per_vm=False,
    id_regs_writable=False,
)
MAINLINE_6_12 = Abi(name="mainline-6.12", summary="Linux 6.12, SVE only", max_features=7)
MAINLINE_7_3 = Abi(name="mainline-7.3", summary="Linux 7.3, SVE only", max_features=10)

RFC_V2_POSTED = Abi(
    name="rfc-v2-posted",
    summary="RFC v2 of the SME series as mailed: SME cannot be enabled",
    max_features=8,
    sme_feature=8,
    sme_cap=231,
    sme_vls=regid.ARM64 | regid.U512 | regid.SME | 0xFFFF,
    init_checks_host_sme=False,
    sme_without_sve=False,
    reset_zeroes_sme_only=False,
    user_format=UserFormat.HOST_HAS_SME,
    za_window=ZaWindow(vq_bias=-1, reachable=False),
    smidr_get_oopses=True,
)
RFC_V2_R1 = replace(
    RFC_V2_POSTED,
    name="rfc-v2-r1",
    summary="as posted, with the feature mask that lets SME be enabled (R1)",
    max_features=9,
)
RFC_V2_R123 = replace(
    RFC_V2_R1,
    name="rfc-v2-r123",
    summary="also: SME without SVE works, vCPUs without SME are never converted (R1 to R3)",
    sme_without_sve=True,
    user_format=UserFormat.VCPU_HAS_SME,
)
RFC_V2 = replace(
    RFC_V2_R123,
    name="rfc-v2",
    summary="RFC v2 as it was meant (R1 to R5): also ZA and ZT0, and a reset that clears everything",
    init_checks_host_sme=True,
    reset_zeroes_sme_only=True,
    za_window=ZaWindow(vq_bias=0, reachable=True),
    zt0=regid.ZT0,
    smidr_get_oopses=False,
)

REVISIONS: dict[str, Abi] = {
    revision.name: revision
    for revision in (
        RFC_V2, RFC_V2_R123, RFC_V2_R1, RFC_V2_POSTED, MAINLINE_6_1, MAINLINE_6_12, MAINLINE_7_3,
    )
}  # fmt: skip


def abi(name: str) -> Abi:
    """The revision that recording headers call `name`; ValueError names the near ones."""
    if name in REVISIONS:
        return REVISIONS[name]
    near = difflib.get_close_matches(name, REVISIONS, n=1)
    hint = f"did you mean {near[0]}?" if near else "there are " + ", ".join(REVISIONS)
    raise ValueError(f"no revision is called {name!r}; {hint}")
