"""Facts: what one revision of the register ABI can differ in from another, as one frozen value.

A rule reads a field. `revisions` has the values.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from . import idregs, regid


class UserFormat(Enum):
    """Which vCPUs have their vector registers in another format for userspace than for the guest.

    The answer is always "no" where the SVE and the streaming length are equal.
    """

    NEVER = "no vCPU"
    HOST_HAS_SME = "every vCPU of a host with SME, even one that has no SME itself"
    VCPU_HAS_SME = "vCPUs with SME"


class ViewRule(Enum):
    """At which length userspace sees Z, P and FFR, and when."""

    LARGER = "at the larger of the two lengths, always"
    BY_MODE = "at the length of the mode that SVCR.SM says"


class SvcrWrite(Enum):
    """What a SET of SVCR does."""

    STORE = "stores any 64 bits, and nothing else"
    FLUSH = "refuses RES0 bits; zeroes what SMSTART and SMSTOP would"


class ZaGate(Enum):
    """Whether ZA and ZT0 can be reached while SVCR.ZA is 0."""

    UNREACHABLE = "never, EINVAL even with SVCR.ZA"
    OPEN = "yes, what was last saved"
    EINVAL_LAST = "no, EINVAL after all other checks"
    EBUSY_FIRST = "no, EBUSY before FINALIZE is asked for"


class Za(NamedTuple):
    """How IDs stand for rows of ZA.

    The window has 16 * (streaming vq + vq_bias) rows, in unsigned arithmetic and modulo `window_modulus`; a row's
    number is taken modulo `row_modulus`.
    """

    gate: ZaGate
    vq_bias: int = 0
    window_modulus: int = 8192
    row_modulus: int = 8192
    get_writes: bool = False  # a GET copies the user's buffer into the row, and the buffer stays as it was


class SmidrRule(Enum):
    """What SMIDR_EL1 is to userspace."""

    OOPS = "a read crashes the host, a write has no effect"
    ZERO = "reads as zero, a write has no effect"
    PER_VCPU = "a plain register of each vCPU with SME"
    PER_VM = "an ID register of every VM, writable with KVM_CAP_ARM_WRITABLE_IMP_ID_REGS"
    PER_SME_VM = "the same, of VMs with SME"
    PER_SME_VM_FROM_ZERO = "the same, and 0 until it is written"

    @property
    def is_the_vms(self) -> bool:
        return self in (SmidrRule.PER_VM, SmidrRule.PER_SME_VM, SmidrRule.PER_SME_VM_FROM_ZERO)


class RegList(Enum):
    """Which vector registers KVM_GET_REG_LIST names."""

    SVE = "the SVE block of vCPUs with SVE; none of SME"
    SME_STATIC = "also SME_VLS, all of ZA, and ZT0 with SME2; in streaming mode without SVE more than it names"
    BY_SVCR = "what can be accessed now"


class OtherRegs(NamedTuple):
    """The registers beside core and vectors that a kernel lists: which, and in what order.

    First come those of firmware, then `first` in this order, then the other system registers sorted, then CCSIDRs.
    """

    fw_bitmaps: int
    first: tuple[int, ...] = ()
    absent: frozenset[int] = frozenset()  # what this kernel does not know
    by_id_regs: bool = False  # TCR2_EL1, PIR_EL1, PIRE0_EL1 only where the VM's ID registers say so, else always
    ccsidrs: tuple[int, ...] = tuple(range(14))


class DataclassFields:
    """What dataclasses.replace() and fields() ask of a class, for a named tuple; dataclasses is slow to import."""

    def __get__(self, _: object, owner: Any) -> Any:
        from dataclasses import make_dataclass

        fields = make_dataclass(owner.__name__, owner._fields)
        return fields.__dataclass_fields__  # type: ignore[attr-defined]


class Abi(NamedTuple):
    """One revision of the register ABI. Numbers are the kernel's, None is what a revision does not have."""

    name: str
    summary: str
    linux: tuple[int, int]  # the kernel whose age decides about what has no register meaning
    max_features: int  # KVM_VCPU_MAX_FEATURES: a feature bit from here on is ENOENT
    other_regs: OtherRegs
    id_masks: idregs.Masks  # the bits of ID registers that can be written, as far as the values are safe
    id_floors: tuple[idregs.Floor, ...] = idregs.DEBUG_FLOORS
    one_feature_set_per_vm: bool = True  # else only a vCPU's own earlier INIT binds it
    id_regs_freeze: bool = True  # in the VM's first run
    failed_run_freezes: bool = False  # a first run that fails in the kernel's preparations, too
    has_e2h0: bool = False  # KVM_ARM_VCPU_HAS_EL2_E2H0, bit 8
    has_strict_pmu: bool = False  # KVM_ARM_VCPU_PMU_V3_STRICT, bit 9
    long_vcpu_index: bool = True  # KVM_CREATE_VCPU looks at 64 bits of its argument, else at 32

    imp_id_cap: int | None = None  # KVM_CAP_ARM_WRITABLE_IMP_ID_REGS
    el2_refuses_sve: bool = False
    has_fpmr: bool = True  # FPMR, on a host that has it, and its field in ID_AA64PFR2_EL1

    sme_feature: int | None = None  # KVM_ARM_VCPU_SME
    sme_cap: int | None = None  # KVM_CAP_ARM_SME
    sme_vls: int | None = None  # the ID of the SME_VLS pseudo-register
    init_checks_host_sme: bool = True  # else INIT with SME succeeds on a host without, and the vCPU has none
    sme_without_sve: bool = True  # else a vCPU with SME alone cannot be finalized, nor its Z and P be reached
    reset_zeroes_sme_only: bool = True  # else a reset leaves sve_state of a vCPU without SVE as it was

    user_format: UserFormat = UserFormat.NEVER
    view: ViewRule = ViewRule.LARGER
    zp_needs_sve: bool = False  # Z, P and FFR are not there without SVE, in no mode
    ffr_needs_fa64: bool = False  # in streaming mode
    svcr_write: SvcrWrite = SvcrWrite.STORE
    za: Za | None = None
    zt0: int | None = None  # the ID of ZT0, where it has one that works
    zt0_allocation_bytes: int = 512  # ZT0 has 512 bits: the series counted them as bytes
    id_regs_gate: bool = False  # SME2 and FA64 as the vCPU's ID registers say, else as the host has them
    zfr0_with_sme: bool = False  # ID_AA64ZFR0_EL1 is there without SVE
    smidr: SmidrRule = SmidrRule.ZERO
    sme_with_el2: bool = False  # SMCR_EL2 and SMPRIMAP_EL2 are there, on a vCPU with EL2
    smprimap_is_zero: bool = False  # SMPRIMAP_EL2 takes no other value
    reg_list: RegList = RegList.SVE

    @property
    def has_sme(self) -> bool:
        return self.sme_feature is not None

    @property
    def vls_ids(self) -> tuple[int, ...]:
        """The IDs of the pseudo-registers that hold a vCPU's lengths: SVE_VLS, and SME_VLS where there is one."""
        return (regid.SVE_VLS,) if self.sme_vls is None else (regid.SVE_VLS, self.sme_vls)


Abi.__dataclass_fields__ = OtherRegs.__dataclass_fields__ = Za.__dataclass_fields__ = DataclassFields()  # type: ignore[attr-defined]
