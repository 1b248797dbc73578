"""Save and restore of a vCPU in an order that loses nothing, in every revision: the recipe for a VMM.

Lengths and ID registers before FINALIZE, for they decide what there is; then SVCR, for in later revisions it decides
which registers can be reached and a SET of it may zero them; then everything that it may zero; then the rest. Source:
abi-revisions.md section 9; what a revision cannot read or write at all is told there and in sections 5.2 and 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import KvmError
from ..facts import Feature, SmidrRule, layout, regid
from ..machine import Vcpu
from ..rules import idregs, reglist


@dataclass(frozen=True)
class SavedVcpu:
    """A vCPU's features and registers, the registers in the order in which they are to be restored."""

    feature_words: tuple[int, ...]
    before_finalize: tuple[tuple[int, bytes], ...]
    registers: tuple[tuple[int, bytes], ...]


def save(vcpu: Vcpu) -> SavedVcpu:
    """Everything of a finalized vCPU that its revision lets userspace read.

    Not read: ZA where a GET overwrites it, SMIDR_EL1 where a GET crashes the host. KvmError as get_reg_list: ENOEXEC
    before INIT, EPERM before FINALIZE.
    """
    listed = vcpu.get_reg_list()
    before = (*vcpu.abi.vls_ids, *idregs.VECTOR_ID_REGS)
    after = (regid.SVCR, *_zeroed_by_svcr(vcpu), *listed)
    return SavedVcpu(
        vcpu.feature_words,
        tuple(_read(vcpu, before)),
        tuple(_read(vcpu, (reg_id for reg_id in dict.fromkeys(after) if reg_id not in before))),
    )


def restore(vcpu: Vcpu, saved: SavedVcpu) -> None:
    """A fresh vCPU has the features and registers of the saved one.

    KvmError from the first call that this host refuses: INIT for its features, then a register by its own rule. A VM
    whose SMIDR_EL1 was written needs KVM_CAP_ARM_WRITABLE_IMP_ID_REGS enabled first.
    """
    vcpu.init(saved.feature_words)
    for reg_id, value in saved.before_finalize:
        vcpu.set_one_reg(reg_id, value)
    if vcpu.lengths.has_vec:
        vcpu.finalize(Feature.VEC)
    for reg_id, value in saved.registers:
        vcpu.set_one_reg(reg_id, value)


def _zeroed_by_svcr(vcpu: Vcpu) -> Iterable[int]:
    """What a SET of SVCR may zero, and what can be reached only under it; some revisions list little of it."""
    yield from (regid.FPSR, regid.FPCR, regid.FPMR)
    yield from (*reglist.ZREGS, *reglist.PREGS, regid.FFR_ID, *sorted(reglist.VREGS))
    if vcpu.abi.za is not None and not vcpu.abi.za.get_writes:
        yield from (regid.za_row_id(row) for row in range(layout.zreg_bytes(vcpu.lengths.sme_vq)))
        yield regid.ZT0


def _read(vcpu: Vcpu, reg_ids: Iterable[int]) -> Iterable[tuple[int, bytes]]:
    """The registers of those that can be read now."""
    for reg_id in reg_ids:
        if reg_id == regid.SMIDR_EL1 and vcpu.abi.smidr is SmidrRule.OOPS:
            continue
        try:
            yield reg_id, vcpu.get_one_reg(reg_id)
        except KvmError:
            continue
