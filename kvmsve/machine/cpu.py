"""The registers that a CPU holds while it runs a guest: loaded when the guest first uses FP, saved when it leaves.

Both move whole registers at the full length of the mode, never at the length that the guest set. Source:
arch/arm64/kvm/hyp (__hyp_sve_restore_guest() and what it calls), fpsimd_save(); rfc-v2.md section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

from ..errors import check_number
from ..facts import SMCR_LEN, SVCR_SM, SVCR_ZA, ZCR_LEN, layout, regid
from ..rules import FPSIMD, guest_vq
from .ownership import FpState, Ownership
from .regfile import RegFile


class CpuFeatures(NamedTuple):
    """What of the CPU a guest's instructions can notice."""

    sve_vqs: frozenset[int]
    sme_vqs: frozenset[int]
    sme2: bool
    fa64: bool
    fpmr: bool = False


POWERS_OF_TWO = frozenset({1, 2, 4, 8, 16})


def checked_vqs(what: str, vqs: Iterable[int], possible: Set[int]) -> frozenset[int]:
    """The lengths as a set; ValueError for one that is not possible."""
    vqs = frozenset(check_number(f"an {what} length", vq, -(1 << 63), 1 << 63) for vq in vqs)
    wrong = sorted(vqs - possible)
    if wrong:
        lengths = ", ".join(map(str, sorted(possible)))
        raise ValueError(f"no CPU has the {what} length vq {wrong[0]}: there are {lengths}")
    return vqs


def check_sve_set(vqs: Set[int]) -> None:
    """The lengths are those of a CPU with SVE, which has all powers of two up to its largest; ValueError otherwise."""
    missing = sorted(vq for vq in POWERS_OF_TWO - vqs if vq < max(vqs, default=0))
    if missing:
        raise ValueError(
            f"a CPU with SVE has the length vq {missing[0]} where it has vq {max(vqs)}: every power of two up to its "
            "largest length"
        )


class CpuRegs:
    """One CPU's registers during one KVM_RUN; until `load` only the control registers say what memory says.

    `vectors` is Z, P and FFR laid out at `vq`, or V alone where `vq` is FPSIMD; `za` is ZA and ZT0 as in sme_state.
    """

    __slots__ = (
        "_ownership", "_regs", "features", "fpcr", "fpsr", "is_over", "lengths", "loaded", "smcr", "smidr",
        "streaming_vq", "svcr", "sysregs", "vectors", "vq", "vq_in_force", "za", "zcr",
    )  # fmt: skip

    def __init__(self, regs: RegFile, ownership: Ownership, features: CpuFeatures, smidr: int | None = None) -> None:
        """`smidr`: what SMIDR_EL1 reads as, None where it is UNDEFINED."""
        self._regs = regs
        self._ownership = ownership
        self.features = features
        self.smidr = smidr
        self.sysregs = regs.sysregs
        self.is_over = False  # the guest has left
        self.lengths = ownership.lengths
        self.loaded = False
        self.svcr = regs.sysregs[regid.SVCR] & (SVCR_SM | SVCR_ZA)
        self.zcr = regs.sysregs[regid.ZCR_EL1]
        self.smcr = regs.sysregs[regid.SMCR_EL1]
        self.fpsr = self.fpcr = 0
        self.vectors = bytearray()
        self.za = bytearray()
        self._find_lengths()

    def load(self) -> None:
        """The guest owns the FP state, and its registers are in the CPU."""
        if self.loaded:
            return
        regs = self._regs
        self.fpsr, self.fpcr = regs.fpsr, regs.fpcr
        if self.vq == FPSIMD:
            self.vectors = regs.load_vregs()
        else:
            self.vectors = bytearray(regs.sve_state.view[: layout.sve_state_bytes(self.vq)])
            self._drop_unusable_ffr()
        self.za = bytearray(regs.sme_state.view if self.svcr & SVCR_ZA else 0)
        self.loaded = True
        self._ownership.state = FpState.GUEST_OWNED

    def save(self) -> None:
        """Memory holds what the guest left, if it used FP at all; what its mode does not save stays as it was."""
        if not self.loaded:
            return
        regs = self._regs
        regs.fpsr, regs.fpcr = self.fpsr, self.fpcr
        if self.lengths.sve_vq:
            regs.sysregs[regid.ZCR_EL1] = self.zcr
        if self.lengths.sme_vq:
            regs.sysregs[regid.SMCR_EL1] = self.smcr
            regs.sysregs[regid.SVCR] = self.svcr
        if self.svcr & SVCR_ZA:
            regs.sme_state.view[:] = self.za
        if self.vq == FPSIMD:
            regs.store_vregs(self.vectors)
        else:
            self._drop_unusable_ffr()
            regs.sve_state.view[: len(self.vectors)] = self.vectors

    def set_svcr(self, value: int) -> None:
        """SVCR is `value`, with the effects of SMSTART and SMSTOP.

        A change of SM zeroes Z, P, FFR and FPMR and sets FPSR to 0x0800009f; ZA going on zeroes ZA and ZT0.
        """
        changed = self.svcr ^ value
        self.svcr = value & (SVCR_SM | SVCR_ZA)
        self._find_lengths()
        if changed & SVCR_SM:
            self.vectors = bytearray(layout.sve_state_bytes(self.vq) or layout.VREGS_BYTES)
            self.fpsr = layout.FPSR_AFTER_MODE_SWITCH
            self._regs.sysregs[regid.FPMR] = 0
        if changed & value & SVCR_ZA:
            self.za = bytearray(self._regs.sme_state.size)

    def set_zcr(self, value: int) -> None:
        """ZCR_EL1 is `value`; no register changes."""
        self.zcr = value
        self._find_lengths()

    def set_smcr(self, value: int) -> None:
        """SMCR_EL1 is `value`; no register changes."""
        self.smcr = value
        self._find_lengths()

    def _find_lengths(self) -> None:
        """`vq` is the full length of the present mode, `vq_in_force` what its control register leaves of it."""
        self.vq = guest_vq(self.lengths, self.svcr)
        self.streaming_vq = self._streaming_vq() if self.lengths.sme_vq else 0
        if self.svcr & SVCR_SM or self.vq == FPSIMD:
            self.vq_in_force = self.streaming_vq
        else:
            limit = min((self.zcr & ZCR_LEN) + 1, self.lengths.sve_vq)
            self.vq_in_force = max(vq for vq in self.features.sve_vqs if vq <= limit)

    def _streaming_vq(self) -> int:
        """The largest streaming length up to SMCR_EL1.LEN, else the smallest that the CPU has."""
        limit = min((self.smcr & SMCR_LEN) + 1, self.lengths.sme_vq)
        return max((vq for vq in self.features.sme_vqs if vq <= limit), default=min(self.features.sme_vqs))

    def _drop_unusable_ffr(self) -> None:
        """Streaming mode without FA64 has no FFR: none is loaded, and zeroes are saved."""
        if self.svcr & SVCR_SM and not self.features.fa64:
            start = layout.preg_offset(self.vq, layout.FFR)
            self.vectors[start:] = bytes(len(self.vectors) - start)
