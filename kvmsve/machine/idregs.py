"""The ID registers of one VM: what a vCPU sees of them, and which writes are taken."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from ..errors import KvmError
from ..facts import Abi, SmidrRule, regid
from ..rules import VectorLengths, idregs
from .mutex import Mutex, serialised


class IdRegs:
    """The ID registers of one VM: the host's values until userspace changes them, fixed once a vCPU has run.

    Source: set_id_reg(), arm64_check_features(), set_imp_id_reg(); rfc-v2.md 1.4, abi-revisions.md 6.8, 11A and 11E.
    """

    def __init__(self, abi: Abi, host_values: Mapping[int, int]) -> None:
        self._rules = idregs.id_regs(abi)
        self._imp_id_masks = idregs.imp_id_masks(abi)
        self._host_values = host_values
        self._values = dict(host_values)
        if abi.smidr is SmidrRule.PER_SME_VM_FROM_ZERO:
            self._values[regid.SMIDR_EL1] = 0
        self._freezes = abi.id_regs_freeze
        self.imp_id_writable = False  # KVM_CAP_ARM_WRITABLE_IMP_ID_REGS
        self.fixed = False
        self.changes = 0  # how often a register has taken another value
        self._mutex = Mutex()  # kvm->arch.config_lock

    @property
    def other_host_values(self) -> dict[int, int]:
        """The host's values of registers that each vCPU has for itself."""
        return {reg_id: value for reg_id, value in self._host_values.items() if reg_id not in self}

    def __contains__(self, reg_id: int) -> bool:
        return reg_id in self._rules or reg_id in self._imp_id_masks

    def read(self, reg_id: int, lengths: VectorLengths, features: int = 0) -> int:
        """The value as a vCPU with these features sees it."""
        return self._shown(reg_id, self._values.get(reg_id, 0), lengths, features)

    @serialised
    def fix(self) -> None:
        """No register takes another value: a vCPU of the VM runs."""
        self.fixed = True

    @serialised
    def write(self, reg_id: int, value: int, lengths: VectorLengths, features: int = 0) -> None:
        """The register has this value for every vCPU of the VM.

        The present value is always taken. Another: of an implementation ID register EINVAL without
        KVM_CAP_ARM_WRITABLE_IMP_ID_REGS; EBUSY once a vCPU of the VM has run; EINVAL for a value that promises more
        than the host, or changes what is fixed.
        """
        if value == self.read(reg_id, lengths, features):
            return
        name = regid.name(reg_id)
        if reg_id in self._imp_id_masks and not self.imp_id_writable:
            raise KvmError(errno.EINVAL, f"{name}: read-only without KVM_CAP_ARM_WRITABLE_IMP_ID_REGS")
        if self.fixed and self._freezes:
            raise KvmError(errno.EBUSY, f"{name}: fixed since a vCPU of the VM has run")
        if reg_id in self._imp_id_masks:
            mask = self._imp_id_masks[reg_id]
            if value & ~mask:
                raise KvmError(errno.EINVAL, f"{name}: 0x{value:016x} has bits outside 0x{mask:016x}")
        else:
            limit = self._shown(reg_id, self._host_values.get(reg_id, 0), lengths, features)
            if not self._rules[reg_id].takes(value, limit):
                raise KvmError(errno.EINVAL, f"{name}: 0x{value:016x} is not within 0x{limit:016x}")
        self._values[reg_id] = value
        self.changes += 1

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

    @property
    def mmfr3(self) -> int:
        """ID_AA64MMFR3_EL1, which says what translation control registers there are."""
        return self._values.get(idregs.MMFR3, 0)

    @property
    def ctr(self) -> int:
        """CTR_EL0, which has the lengths of cache lines."""
        return self._values.get(idregs.CTR_EL0, 0)

    def _shown(self, reg_id: int, value: int, lengths: VectorLengths, features: int) -> int:
        rule = self._rules.get(reg_id)
        if rule is None or rule.needed is None or idregs.shows(rule.needed, lengths, features):
            return value
        return value & ~rule.part
