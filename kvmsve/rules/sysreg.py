"""System registers: which ones a vCPU has, and what they hold after a reset.

Source: arch/arm64/kvm/sys_regs.c; rfc-v2.md sections 1.4 and 3.3.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from ..facts import SMCR_EZT0, SMCR_FA64, SMCR_LEN, ZCR_LEN, Abi, SmidrRule, regid
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
    SVE_AND_EL2 = auto()
    SME_AND_EL2 = auto()


def open_gates(abi: Abi, lengths: VectorLengths, *, has_fpmr: bool, has_el2: bool) -> frozenset[Gate]:
    """The gates that such a vCPU passes."""
    has_sve, has_sme = lengths.sve_vq > 0, lengths.sme_vq > 0
    passes = {
        Gate.ALWAYS: True,
        Gate.SVE: has_sve,
        Gate.SME: has_sme,
        Gate.FPMR: has_fpmr,
        Gate.SMIDR: has_sme or (abi.smidr is SmidrRule.PER_VM),
        Gate.SVE_AND_EL2: has_sve and has_el2,
        Gate.SME_AND_EL2: has_sme and has_el2 and abi.sme_with_el2,
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
