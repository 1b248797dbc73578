"""System registers: which ones a vCPU has, what they hold after a reset, and which values some of them refuse.

Source: arch/arm64/kvm/sys_regs.c; rfc-v2.md sections 1.4 and 3.3.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from ..facts import PTRAUTH, SMCR_EZT0, SMCR_FA64, SMCR_LEN, ZCR_LEN, Abi, Feature, SmidrRule, bits, regid
from .views import VectorLengths

ALL_BITS = (1 << 64) - 1
UNKNOWN = 0x1DE7_EC7E_DBAD_C0DE  # what KVM puts into a register whose reset value the architecture leaves open


class Gate(Enum):
    """What a vCPU must have for a register to be there."""

    ALWAYS = auto()
    SVE = auto()
    SME = auto()
    FPMR = auto()
    SMIDR = auto()
    PMU = auto()
    POINTER_AUTHENTICATION = auto()
    TCR2 = auto()
    SCTLR2 = auto()
    S1PIE = auto()
    EL2 = auto()
    SVE_AND_EL2 = auto()
    SME_AND_EL2 = auto()
    TCR2_AND_EL2 = auto()
    SCTLR2_AND_EL2 = auto()
    S1PIE_AND_EL2 = auto()


MMFR3_TCRX, MMFR3_SCTLRX, MMFR3_S1PIE = (0xF << shift for shift in (0, 4, 8))


def open_gates(
    abi: Abi, lengths: VectorLengths, *, has_fpmr: bool, features: int = 0, mmfr3: int = 0
) -> frozenset[Gate]:
    """The gates that a vCPU with these features passes; `mmfr3` is what its ID_AA64MMFR3_EL1 says."""
    has_sve, has_sme = lengths.sve_vq > 0, lengths.sme_vq > 0
    has_el2 = bool(features & bits(Feature.HAS_EL2))
    tcr2, sctlr2, s1pie = (
        bool(mmfr3 & field) or not abi.other_regs.by_id_regs for field in (MMFR3_TCRX, MMFR3_SCTLRX, MMFR3_S1PIE)
    )
    passes = {
        Gate.ALWAYS: True,
        Gate.SVE: has_sve,
        Gate.SME: has_sme,
        Gate.FPMR: has_fpmr,
        Gate.SMIDR: has_sme or (abi.smidr is SmidrRule.PER_VM),
        Gate.PMU: bool(features & bits(Feature.PMU_V3)),
        Gate.POINTER_AUTHENTICATION: features & PTRAUTH == PTRAUTH,
        Gate.TCR2: tcr2,
        Gate.SCTLR2: sctlr2,
        Gate.S1PIE: s1pie,
        Gate.EL2: has_el2,
        Gate.SVE_AND_EL2: has_sve and has_el2,
        Gate.SME_AND_EL2: has_sme and has_el2 and abi.sme_with_el2,
        Gate.TCR2_AND_EL2: tcr2 and has_el2,
        Gate.SCTLR2_AND_EL2: sctlr2 and has_el2,
        Gate.S1PIE_AND_EL2: s1pie and has_el2,
    }
    return frozenset(gate for gate, is_open in passes.items() if is_open)


class SysReg(NamedTuple):
    gate: Gate = Gate.ALWAYS
    reset: int = 0
    guest_mask: int = ALL_BITS  # what is left of the value from the VM's first run on


def reset_pstate(is_aarch32: bool, has_el2: bool) -> int:
    """PSTATE after a reset: all interrupts masked, in AArch32's SVC, at EL2 or at EL1 (kvm_reset_vcpu())."""
    if is_aarch32:
        return 0x1D3
    return 0x3C9 if has_el2 else 0x3C5


def reset_mpidr(vcpu: int) -> int:
    """MPIDR_EL1 of the vCPU with this index: 16 to a cluster (reset_mpidr())."""
    return 1 << 31 | (vcpu >> 12 & 0xFF) << 16 | (vcpu >> 4 & 0xFF) << 8 | vcpu & 0xF


PLAIN = SysReg()
OSLSR_EL1, CLIDR_EL1, CTR_EL0 = (regid.BY_NAME[name] for name in ("OSLSR_EL1", "CLIDR_EL1", "CTR_EL0"))
OSLSR_IMPLEMENTED = 1 << 3
CONTROL_REGS = {
    regid.CPACR_EL1: SysReg(),
    regid.ZCR_EL1: SysReg(Gate.SVE),
    regid.SMCR_EL1: SysReg(Gate.SME),
    regid.SMIDR_EL1: SysReg(Gate.SMIDR),
    regid.SVCR: SysReg(Gate.SME),
    regid.FPMR: SysReg(Gate.FPMR),
    regid.TPIDR2_EL0: SysReg(Gate.SME, reset=UNKNOWN),
    regid.ZCR_EL2: SysReg(Gate.SVE_AND_EL2, guest_mask=ZCR_LEN),
    regid.SMCR_EL2: SysReg(Gate.SME_AND_EL2, guest_mask=SMCR_FA64 | SMCR_EZT0 | SMCR_LEN),
    regid.SMPRIMAP_EL2: SysReg(Gate.SME_AND_EL2),
}
RESETS = {
    OSLSR_EL1: OSLSR_IMPLEMENTED
}  # of registers without a vector meaning; others reset to what the host has, or 0
OPTIONAL_REGS: dict[int, SysReg] = {
    reg_id: SysReg(gate)
    for group, gate in (
        ({**regid.PMU, **regid.PMMIR}, Gate.PMU),
        (regid.POINTER_AUTHENTICATION, Gate.POINTER_AUTHENTICATION),
        (regid.TCR2, Gate.TCR2),
        (regid.SCTLR2, Gate.SCTLR2),
        (regid.S1PIE, Gate.S1PIE),
        (regid.EL2, Gate.EL2),
        (regid.TCR2_EL2, Gate.TCR2_AND_EL2),
        (regid.SCTLR2_EL2, Gate.SCTLR2_AND_EL2),
        (regid.S1PIE_EL2, Gate.S1PIE_AND_EL2),
    )
    for reg_id in group
}
GATED_REGS = OPTIONAL_REGS | CONTROL_REGS


class Settable(NamedTuple):
    """The values that a register takes: those that differ from `fixed` in these bits alone; None: from any value."""

    bits: int
    fixed: int | None = None

    def takes(self, value: int, present: int) -> bool:
        return not (value ^ (present if self.fixed is None else self.fixed)) & ~self.bits


OSLSR_LOCKED = 1 << 1
_INVARIANT = Settable(0)


def settable(abi: Abi) -> dict[int, Settable]:
    """The registers of each vCPU that do not take every value, beside ID registers.

    OSLSR_EL1 takes its lock alone. CLIDR_EL1 and CTR_EL0 are as they are in kernels that do not let them be written;
    later CLIDR_EL1 refuses RES0 bits, and CTR_EL0 is an ID register (set_oslsr_el1(), set_clidr()).
    """
    clidr = dict(abi.id_masks).get(CLIDR_EL1)
    return {
        OSLSR_EL1: Settable(OSLSR_LOCKED, OSLSR_IMPLEMENTED),
        CLIDR_EL1: _INVARIANT if clidr is None else Settable(clidr, 0),
        CTR_EL0: _INVARIANT,
    }
