"""Rules: the order in which a VMM restores a vCPU, and whether what it gives can be held."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from ..errors import HostOops
from ..facts import SvcrWrite, UserFormat, ViewRule, ZaGate, layout, regid
from ..machine import FpState
from ..ops import operations as ops
from ..state import Loss, Registers, losses
from .findings import VECTORS, Hit, Rule, accepted, flips_streaming, is_matrix, not_held, rule
from .rehearsal import Event, Stretch
from .save_rules import is_save, unread

RESTORE_RULES: list[Rule] = []
REFUSALS_WITHOUT_ZA = {ZaGate.EINVAL_LAST: errno.EINVAL, ZaGate.EBUSY_FIRST: errno.EBUSY}


@rule(RESTORE_RULES, "Set SVCR before V, Z, P, FFR, FPSR and FPMR, and do not change it after them.")
def svcr_after_vectors(stretch: Stretch) -> Hit | None:
    """SVCR.SM decides what the vector registers are. Changing it zeroes V, Z, P, FFR and FPMR and gives FPSR another
    value, or where a SET of SVCR is a plain store, makes the bytes be read at the other mode's length.
    """
    depending = _depend_on_mode(stretch)
    given: dict[int, Event] = {}
    svcr_is_set = False
    late = None
    for event in accepted(stretch.sets):
        if event.reg_id == regid.SVCR:
            if given and (flips_streaming(event) or not svcr_is_set):
                late = late or event
            svcr_is_set = True
        elif event.register in depending:
            given[event.register] = event
    if late is None:
        return None
    early = [event for event in given.values() if event.line < late.line]
    return Hit(late.line, not_held(early, stretch)) if early else None


@rule(RESTORE_RULES, "Set SVCR before the rows of ZA and before ZT0.")
def za_before_svcr(stretch: Stretch) -> Hit | None:
    """A row of ZA or ZT0 is refused while SVCR.ZA is 0, and SVCR.ZA is set only later."""
    if stretch.abi.za is None or stretch.abi.za.gate not in REFUSALS_WITHOUT_ZA:
        return None
    refusal = REFUSALS_WITHOUT_ZA[stretch.abi.za.gate]
    refused = [
        event
        for event in stretch.sets
        if is_matrix(event.reg_id) and event.is_refused(refusal) and not event.before.za_is_on
    ]
    return _late(refused, stretch) if stretch.end.za_is_on else None


@rule(RESTORE_RULES, "Set SVCR before Z, P and FFR.")
def vectors_before_streaming(stretch: Stretch) -> Hit | None:
    """A vCPU without SVE has Z, P and FFR in streaming mode only: they are refused while SVCR.SM is 0, and SVCR.SM is
    set only later.
    """
    refused = [
        event
        for event in stretch.sets
        if event.reg_id in VECTORS and event.is_refused(errno.ENOENT) and not event.before.is_streaming
    ]
    return _late(refused, stretch) if stretch.end.is_streaming else None


@rule(RESTORE_RULES, "Set SVE_VLS and SME_VLS between KVM_ARM_VCPU_INIT and KVM_ARM_VCPU_FINALIZE.")
def vls_after_finalize(stretch: Stretch) -> Hit | None:
    """KVM_ARM_VCPU_FINALIZE fixes the vector lengths: a later SET of SVE_VLS or SME_VLS is refused, and the vCPU keeps
    what it has, all that the host offers unless told otherwise.
    """
    refused = [event for event in stretch.sets if event.reg_id in stretch.abi.vls_ids and event.is_refused(errno.EPERM)]
    return Hit(refused[0].line, not_held(refused, stretch)) if refused else None


@rule(RESTORE_RULES, "Set SVCR while userspace owns the state: read or write a Z register before it.")
def svcr_in_guest_format(stretch: Stretch) -> Hit | None:
    """SVCR.SM says how the guest's bytes lie in memory. Where userspace has a format of its own, changing it while the
    bytes are still in the guest's makes them be read at the length of a mode that did not write them.
    """
    if stretch.abi.user_format is UserFormat.NEVER:
        return None
    for event in accepted(stretch.sets):
        if not flips_streaming(event) or event.before.fp_state is FpState.USER_OWNED:
            continue
        later = {other.register for other in stretch.sets if other.line > event.line}
        parts = _shared_part(event.before.live, event.after.registers)
        lost = [part for part in parts if part.reg_id in VECTORS - later and part.differing]
        if lost:
            return Hit(event.line, lost)
    return None


@rule(
    RESTORE_RULES, "Give the new vCPU the vector lengths of the saved one, and do not load a state into another length."
)
def lengths_do_not_fit(stretch: Stretch) -> Hit | None:
    """What a register gets beyond the vCPU's vector length is dropped without an error; lengths that the host lacks,
    and rows of ZA beyond the streaming length, are refused.
    """
    given = {event.register: event for event in stretch.sets}
    unfit = [event for event in given.values() if _is_unfit(event, stretch)]
    return Hit(unfit[0].line, not_held(unfit, stretch)) if unfit else None


@rule(RESTORE_RULES, "Set in the new vCPU every register that was read from the saved one.")
def not_restored(stretch: Stretch) -> Hit | None:
    """The VMM read a register of the saved vCPU and never sets it in the new one."""
    if stretch.source is None or not is_save(stretch.source) or not stretch.sets:
        return None
    excused = {*unread(stretch.source), *(event.register for event in stretch.sets)}
    expected = {reg_id: data for reg_id, data in stretch.source.start.live.items() if reg_id not in excused}
    lost = losses(expected, stretch.end.registers)
    return Hit(stretch.sets[0].line, lost) if lost else None


@rule(
    RESTORE_RULES,
    "Look at KVM_ARM_VCPU_INIT and KVM_ARM_VCPU_FINALIZE: feature bits and their capability move between kernels.",
)
def no_vcpu(stretch: Stretch) -> Hit | None:
    """INIT or FINALIZE is refused and not repeated with success, and the VMM goes on as if it had a vCPU."""
    if not stretch.sets:
        return None
    for kind in (ops.VcpuInit, ops.Finalize):
        tries = [event for event in stretch.events if isinstance(event.op, kind)]
        came_before = any(isinstance(event.op, kind) for event in stretch.earlier)
        if tries and all(event.failure for event in tries) and not came_before:
            return Hit(tries[-1].line, not_held(stretch.sets, stretch))
    return None


@rule(RESTORE_RULES, "None: this kernel must be repaired.")
def host_crash(stretch: Stretch) -> Hit | None:
    """The kernel of this revision crashes in this call; nothing after it was looked at."""
    last = stretch.events[-1]
    return Hit(last.line, []) if isinstance(last.failure, HostOops) else None


def _depend_on_mode(stretch: Stretch) -> frozenset[int]:
    """The registers that a change of SVCR.SM zeroes or makes be read otherwise."""
    lengths = stretch.end.lengths
    if stretch.abi.view is not ViewRule.BY_MODE:
        return frozenset()
    if stretch.abi.svcr_write is SvcrWrite.FLUSH:
        return VECTORS | {regid.FPSR, regid.FPMR}
    return VECTORS if lengths.sve_vq != lengths.sme_vq else frozenset()


def _late(refused: list[Event], stretch: Stretch) -> Hit | None:
    """Those of these sets that the VMM does not repeat with success."""
    repeated = {event.register for event in accepted(stretch.sets)}
    final = [event for event in refused if event.register not in repeated]
    return Hit(final[0].line, not_held(final, stretch)) if final else None


def _shared_part(before: Registers, after: Registers) -> Iterator[Loss]:
    """Registers as they were and as they are, each at the smaller of its two lengths."""
    for reg_id, wanted in before.items():
        held = after.get(reg_id, b"")
        size = min(len(wanted), len(held))
        yield Loss(reg_id, wanted[:size], held[:size])


def _is_unfit(event: Event, stretch: Stretch) -> bool:
    """The set gives lengths, rows or bytes that the vCPU has not."""
    if event.reg_id in stretch.abi.vls_ids:
        return event.is_refused(errno.EINVAL)
    if is_matrix(event.reg_id) and event.reg_id != regid.ZT0:
        rows = layout.zreg_bytes(stretch.end.lengths.sme_vq)
        return event.is_refused(errno.EINVAL) and rows > 0 and event.reg_id >= regid.za_row_id(rows)
    if event.failure or event.reg_id not in VECTORS or event.before.is_streaming != stretch.end.is_streaming:
        return False
    held = stretch.end.registers.get(event.reg_id)
    return held is not None and any(event.data[len(held) :])
