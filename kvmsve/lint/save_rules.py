"""Rules: what a VMM that saves a vCPU does not get of it."""

from __future__ import annotations

from collections.abc import Callable

from ..facts import regid
from ..ops import operations as ops
from ..state import Loss, Registers, canonical, losses
from .findings import VECTORS, Hit, Rule, accepted, can_be_reached, is_matrix, not_held, refused_vregs, rule
from .rehearsal import GETS, SETS, Event, Stretch

SAVE_RULES: list[Rule] = []
SIGNS_OF_A_SAVE = VECTORS | {regid.ZT0, regid.SVCR, regid.FPSR, regid.FPCR}


@rule(SAVE_RULES, "Do not read rows of ZA from a kernel of this revision.")
def za_get_overwrites(stretch: Stretch) -> Hit | None:
    """A GET of a row of ZA copies the VMM's buffer into the row, and succeeds."""
    if stretch.abi.za is None or not stretch.abi.za.get_writes:
        return None
    rows = [event for event in stretch.gets if is_matrix(event.reg_id) and not event.failure]
    lost = losses(stretch.start.registers, stretch.end.registers) if rows else []
    lost = [loss for loss in lost if is_matrix(loss.reg_id)]
    return Hit(rows[0].line, lost) if lost else None


@rule(SAVE_RULES, "None in this revision: hide SME from guests that are to be saved.")
def unreachable(stretch: Stretch) -> Hit | None:
    """The guest has these registers, and no call of this revision reads them."""
    return _unsaved(stretch, lambda reg_id: not can_be_reached(reg_id, stretch.start))


@rule(SAVE_RULES, "Read them by ID, beside the list, and set them likewise.")
def not_listed(stretch: Stretch) -> Hit | None:
    """KVM_GET_REG_LIST does not name these registers, and the VMM does not read them."""
    return _unsaved(stretch, lambda reg_id: can_be_reached(reg_id, stretch.start) and not _is_listed(reg_id, stretch))


@rule(SAVE_RULES, "Ask for KVM_GET_REG_LIST again after the guest has run and after each SET of SVCR.")
def list_not_read_again(stretch: Stretch) -> Hit | None:
    """The register list follows SVCR. The VMM goes by an older list, which lacks these registers."""
    older = _last_list(stretch)
    if older is None:
        return None
    return _unsaved(stretch, lambda reg_id: _is_offered(reg_id, stretch) and reg_id not in older)


@rule(SAVE_RULES, "Read every register that the list names.")
def not_read(stretch: Stretch) -> Hit | None:
    """KVM_GET_REG_LIST names these registers, and the VMM does not read them."""
    older = _last_list(stretch)
    return _unsaved(stretch, lambda reg_id: _is_offered(reg_id, stretch) and (older is None or reg_id in older))


@rule(SAVE_RULES, "Use Z, P and FFR instead of V where the vCPU has them.")
def v_through_core(stretch: Stretch) -> Hit | None:
    """V registers are refused where Z is in their place: on every vCPU with SVE, or with SME where Z is always there,
    and in streaming mode.
    """
    refused = refused_vregs(stretch)
    if not refused:
        return None
    attempted = {event.register for event in refused}
    missing = unread(stretch) if is_save(stretch) else {}
    saved = [Loss(reg_id, data, None) for reg_id, data in missing.items() if reg_id in attempted]
    restored = not_held((event for event in refused if isinstance(event.op, SETS)), stretch)
    return Hit(refused[0].line, [*saved, *restored])


# What the rules ask


def unread(stretch: Stretch) -> Registers:
    """What the guest left and no GET of the stretch has got. Lengths that the VMM has ever read or set, it knows."""
    got = {event.register for event in accepted(stretch.gets) if _has_got_all(event)}
    moves = (event for event in (*stretch.earlier, *stretch.events) if isinstance(event.op, (*GETS, *SETS)))
    known = {event.reg_id for event in accepted(moves)}
    vls = {reg_id for reg_id in known if reg_id in stretch.abi.vls_ids}
    return {reg_id: data for reg_id, data in stretch.start.live.items() if reg_id not in got | vls}


def _has_got_all(event: Event) -> bool:
    """The call has got what the vCPU held of its register: where row numbers wrap, a row has another's bytes."""
    held = event.before.registers.get(event.register, b"")
    return event.data[: len(held)] == held


def is_save(stretch: Stretch) -> bool:
    """The guest has run, and the VMM reads registers of its vectors."""
    return stretch.follows_a_run and any(_is_sign(event) for event in stretch.gets)


def _is_sign(event: Event) -> bool:
    return event.register in SIGNS_OF_A_SAVE or is_matrix(event.reg_id)


def _unsaved(stretch: Stretch, is_meant: Callable[[int], bool]) -> Hit | None:
    """The unread registers of this sort, where the stretch is a save; not V, which has a rule of its own."""
    if not is_save(stretch):
        return None
    excused = {event.register for event in refused_vregs(stretch)}
    lost = [
        Loss(reg_id, data, None)
        for reg_id, data in unread(stretch).items()
        if reg_id not in excused and is_meant(reg_id)
    ]
    return Hit(next(event.line for event in stretch.gets if _is_sign(event)), lost) if lost else None


def _is_listed(reg_id: int, stretch: Stretch) -> bool:
    """The register list names the register when the save begins."""
    return reg_id in map(canonical, stretch.start.listed)


def _is_offered(reg_id: int, stretch: Stretch) -> bool:
    """Listed, and a call reads it."""
    return _is_listed(reg_id, stretch) and can_be_reached(reg_id, stretch.start)


def _last_list(stretch: Stretch) -> set[int] | None:
    """The register list that the VMM goes by, None if it never asked."""
    asked = [event for event in accepted((*stretch.earlier, *stretch.events)) if isinstance(event.op, ops.RegList)]
    return set(map(canonical, asked[-1].before.listed)) if asked else None
