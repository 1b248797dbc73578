"""The ID registers of one VM: what a vCPU sees of them, and which writes are taken."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from ..errors import KvmError
from ..facts import Abi, regid
from ..rules import VectorLengths, idregs
from .mutex import Mutex, serialised


class IdRegs:
    """The ID registers of one VM: the host's values until userspace changes them, fixed once a vCPU has run.

    Source: set_id_reg(), arm64_check_features(), set_imp_id_reg(); rfc-v2.md 1.4, abi-revisions.md 6.8 and 11A.
    """

    def __init__(self, abi: Abi, host_values: Mapping[int, int]) -> None:
        self._rules = idregs.id_regs(abi)
        self.host_values = host_values
        self._values = dict(host_values)
        self._zfr0_with_sme = abi.zfr0_with_sme
        self._writable = abi.id_regs_writable
        self.imp_id_writable = False  # KVM_CAP_ARM_WRITABLE_IMP_ID_REGS
        self.fixed = False
        self.changes = 0  # how often a register has taken another value
        self._mutex = Mutex()  # kvm->arch.config_lock

    @property
    def other_host_values(self) -> dict[int, int]:
        """The host's values of registers that each vCPU has for itself."""
        return {reg_id: value for reg_id, value in self.host_values.items() if reg_id not in self}

    def __contains__(self, reg_id: int) -> bool:
        return reg_id in self._rules

    def read(self, reg_id: int, lengths: VectorLengths) -> int:
        """The value as a vCPU with these features sees it."""
        return self._limit(reg_id, self._values[reg_id], lengths)

    @serialised
    def fix(self) -> None:
        """No register takes another value: a vCPU of the VM runs."""
        self.fixed = True

    @serialised
    def write(self, reg_id: int, value: int, lengths: VectorLengths) -> None:
        """The register has this value for every vCPU of the VM.

        The present value is always taken. Another: EINVAL where the kernel has the register read-only, EBUSY once a
        vCPU of the VM has run, EINVAL for a value that promises more than the host or changes what is fixed.
        """
        if value == self.read(reg_id, lengths):
            return
        name = regid.name(reg_id)
        if not self._writable:
            raise KvmError(errno.EINVAL, f"{name}: this kernel takes no value but the present one")
        if self.fixed:
            raise KvmError(errno.EBUSY, f"{name}: fixed since a vCPU of the VM has run")
        limit = self._limit(reg_id, self.host_values[reg_id], lengths)
        if not self._rules[reg_id].takes(value, limit):
            raise KvmError(errno.EINVAL, f"{name}: 0x{value:016x} is not within 0x{limit:016x}")
        self._values[reg_id] = value
        self.changes += 1

    @property
    def smidr(self) -> int:
        """SMIDR_EL1 of the VM."""
        return self._values[regid.SMIDR_EL1]

    @serialised
    def write_smidr(self, value: int) -> None:
        """SMIDR_EL1 of the VM is this.

        The present value is always taken. Another: EINVAL without KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, EBUSY once a vCPU
        of the VM has run, EINVAL for bits outside idregs.SMIDR_MASK.
        """
        if value == self.smidr:
            return
        if not self.imp_id_writable:
            raise KvmError(errno.EINVAL, "SMIDR_EL1: read-only without KVM_CAP_ARM_WRITABLE_IMP_ID_REGS")
        if self.fixed:
            raise KvmError(errno.EBUSY, "SMIDR_EL1: fixed since a vCPU of the VM has run")
        if value & ~idregs.SMIDR_MASK:
            raise KvmError(errno.EINVAL, f"SMIDR_EL1: 0x{value:016x} has bits outside 0x{idregs.SMIDR_MASK:016x}")
        self._values[regid.SMIDR_EL1] = value

    @property
    def has_sme2(self) -> bool:
        """ID_AA64PFR1_EL1 says SME2."""
        return self._values[regid.ID_AA64PFR1_EL1] >> idregs.PFR1_SME_SHIFT & 0xF >= idregs.PFR1_SME2

    @property
    def has_fa64(self) -> bool:
        """ID_AA64SMFR0_EL1 says FA64."""
        return bool(self._values[regid.ID_AA64SMFR0_EL1] & idregs.SMFR0_FA64)

    @property
    def has_fpmr(self) -> bool:
        """ID_AA64PFR2_EL1 says FPMR."""
        return bool(self._values[regid.ID_AA64PFR2_EL1] & idregs.PFR2_FPMR_FIELD)

    def _limit(self, reg_id: int, value: int, lengths: VectorLengths) -> int:
        rule = self._rules[reg_id]
        if reg_id == regid.ID_AA64ZFR0_EL1 and self._zfr0_with_sme:
            return value if lengths.has_vec else 0
        if not lengths.sve_vq:
            value &= ~rule.sve_mask
        return value if lengths.sme_vq else value & ~rule.sme_mask
