"""Who owns a vCPU's FP state, and when its registers move between the user and the guest format.

User format: Z, P and FFR in sve_state at max_vq. Guest format: what the hypervisor saves and restores, which follows
SVCR.SM and the vCPU's features. Source: arch/arm64/kvm/fpsimd.c; rfc-v2.md section 4.
"""

from __future__ import annotations

from enum import Enum

from ..facts import UserFormat, regid
from ..rules import FPSIMD, VectorLengths, guest_vq, user_format_needed
from .regfile import RegFile


class FpState(Enum):
    """The owner of the FP state; all but USER_OWNED mean that memory is in guest format."""

    FREE = 0
    HOST_OWNED = 1
    GUEST_OWNED = 2
    USER_OWNED = 3


class Ownership:
    """The owner of one vCPU's FP state, and every move that a change of owner entails."""

    __slots__ = ("_host_has_sme", "_regs", "_rule", "lengths", "state")

    def __init__(self, regs: RegFile, rule: UserFormat, host_has_sve: bool, host_has_sme: bool) -> None:
        starts_with_user = rule is not UserFormat.NEVER and host_has_sve and host_has_sme
        self.state = FpState.USER_OWNED if starts_with_user else FpState.FREE
        self.lengths = VectorLengths()
        self._regs = regs
        self._rule = rule
        self._host_has_sme = host_has_sme

    def user_to_guest(self) -> None:
        """Memory is in guest format and nobody owns it (vcpu_fp_user_to_guest())."""
        if self.state is not FpState.USER_OWNED:
            return
        if self._user_format_needed():
            vq = self._guest_vq()
            if vq == FPSIMD:
                self._regs.sve_to_fpsimd()
            elif vq != self.lengths.max_vq:
                self._regs.rewrite(vq, self.lengths.max_vq)
        self.state = FpState.FREE

    def guest_to_user(self) -> None:
        """Memory is in user format, and userspace owns it if the formats can differ (vcpu_fp_guest_to_user())."""
        if self.state is FpState.USER_OWNED or not self._user_format_needed():
            return
        vq = self._guest_vq()
        if vq == FPSIMD:
            self._regs.fpsimd_to_sve()
        elif vq != self.lengths.max_vq:
            self._regs.rewrite(self.lengths.max_vq, vq)
        self.state = FpState.USER_OWNED

    def load(self) -> None:
        """The vCPU is about to enter the guest: guest format, owned by the host (kvm_arch_vcpu_load_fp())."""
        self.user_to_guest()
        self.state = FpState.HOST_OWNED

    @property
    def is_user_format(self) -> bool:
        """A GET or SET of Z, P or FFR would move nothing."""
        return self.state is FpState.USER_OWNED or not self._user_format_needed()

    def _user_format_needed(self) -> bool:
        return user_format_needed(self._rule, self._host_has_sme, self.lengths)

    def _guest_vq(self) -> int:
        return guest_vq(self.lengths, self._regs.sysregs[regid.SVCR])
