"""Rules: which of a vCPU's vector registers userspace can reach now, and at which length.

Two implementations of one question. RFC v2 and SVE alone: Z, P and FFR at the larger length, whatever the mode. v3 on:
what the architecture has in the mode that SVCR.SM says, at that mode's maximum length. Source: vcpu_max_vq() of the
one, vcpu_cur_sve_vq() of the other; abi-revisions.md 5.1 and 5.2.
"""

from __future__ import annotations

from typing import NamedTuple

from ..facts import SVCR_SM, Abi, UserFormat, ViewRule, layout


class VectorLengths(NamedTuple):
    """The maximum lengths of one vCPU in quadwords; 0 for a feature that it does not have."""

    sve_vq: int = 0
    sme_vq: int = 0

    @property
    def has_vec(self) -> bool:
        return bool(self.sve_vq or self.sme_vq)

    @property
    def max_vq(self) -> int:
        """The length at which userspace sees Z, P and FFR in RFC v2 (vcpu_max_vq())."""
        return max(self.sve_vq, self.sme_vq)


class View(NamedTuple):
    """What userspace can reach of Z, P, FFR (at `vq`) and V."""

    vq: int
    has_zp: bool
    has_ffr: bool
    has_v: bool
    has_valid_size: bool = True  # else the kernel cannot tell the state's size


def view(abi: Abi, lengths: VectorLengths, svcr: int, has_fa64: bool) -> View:
    """The view of a vCPU with these lengths, as SVCR is."""
    if abi.view is ViewRule.BY_MODE:
        return _by_mode(abi, lengths, bool(svcr & SVCR_SM), has_fa64)
    return _larger(abi, lengths)


def _larger(abi: Abi, lengths: VectorLengths) -> View:
    there = lengths.has_vec
    has_valid_size = bool(lengths.sve_vq) or abi.sme_without_sve
    return View(lengths.max_vq, has_zp=there, has_ffr=there, has_v=not there, has_valid_size=has_valid_size)


def _by_mode(abi: Abi, lengths: VectorLengths, streaming: bool, has_fa64: bool) -> View:
    has_sve = lengths.sve_vq > 0
    has_zp = has_sve or (streaming and not abi.zp_needs_sve)
    has_ffr = has_fa64 if streaming and abi.ffr_needs_fa64 else has_zp
    vq = lengths.sme_vq if streaming else lengths.sve_vq
    return View(vq, has_zp=has_zp, has_ffr=has_ffr, has_v=not (has_sve or streaming))


FPSIMD = 0  # the guest's length where its registers are V alone, in fp_regs


def guest_vq(lengths: VectorLengths, svcr: int) -> int:
    """The length of sve_state in guest format: the streaming one under SM, else the SVE one, else FPSIMD."""
    return lengths.sme_vq if svcr & layout.SVCR_SM else lengths.sve_vq


def user_format_needed(rule: UserFormat, host_has_sme: bool, lengths: VectorLengths) -> bool:
    """Whether the two formats of this vCPU can differ (vcpu_fp_user_format_needed())."""
    if lengths.sve_vq and lengths.sve_vq == lengths.sme_vq:
        return False
    if rule is UserFormat.HOST_HAS_SME:
        return host_has_sme
    return rule is UserFormat.VCPU_HAS_SME and lengths.sme_vq > 0
