"""Rules of what a VMM's save and restore of a vCPU loses or risks, and what they ask of its calls.

A rule is a function of one stretch of calls; its docstring is its explanation. It asks fields of Abi and what the
vCPU held before and after a call, and knows no program and no revision by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import KvmError
from ..facts import regid
from ..rules import Reach, onereg, reglist, view
from ..state import Loss, Snapshot
from .rehearsal import Event, Stretch

VECTORS = frozenset((*reglist.ZREGS, *reglist.PREGS, regid.FFR_ID))


class Hit(NamedTuple):
    """Where a rule found something, and what is lost by it: perhaps nothing this time."""

    line: int
    lost: list[Loss]


Find = Callable[[Stretch], Hit | None]


class Rule(NamedTuple):
    name: str
    why: str
    fix: str
    find: Find


def rule(rules: list[Rule], fix: str) -> Callable[[Find], Find]:
    """The decorated function is one more of these rules, named and explained by itself."""

    def register(find: Find) -> Find:
        rules.append(Rule(find.__name__.replace("_", "-"), " ".join((find.__doc__ or "").split()), fix, find))
        return find

    return register


def accepted(events: Iterable[Event]) -> Iterable[Event]:
    return (event for event in events if not event.failure)


def flips_streaming(event: Event) -> bool:
    return event.before.is_streaming != event.after.is_streaming


def is_matrix(reg_id: int) -> bool:
    """A row of ZA, or ZT0."""
    return reg_id == regid.ZT0 or regid.is_za_row(reg_id)


def can_be_reached(reg_id: int, snapshot: Snapshot) -> bool:
    """The revision has a call that reads this register of such a vCPU."""
    abi, za = snapshot.abi, snapshot.abi.za
    now = view(abi, snapshot.lengths, snapshot.svcr, has_fa64=True)
    if not is_matrix(reg_id):
        return reg_id not in VECTORS or now.has_zp or now.has_v
    if za is None or za.get_writes or (reg_id != regid.ZT0 and regid.za_row_of(reg_id) >= za.row_modulus):
        return False
    try:
        onereg.sme_reg_to_region(reg_id, Reach(abi, snapshot.lengths, now, True, True, True))
    except KvmError:
        return False
    return True


def refused_vregs(stretch: Stretch) -> list[Event]:
    """Calls on V that are refused where Z is in its place, if the VMM does not use Z itself instead."""
    calls = [event for event in stretch.events if event.register in reglist.ZREGS]
    by_z = {event.register for event in accepted(calls)}
    refused = (event for event in calls if event.reg_id in reglist.VREGS and event.failure)
    return [event for event in refused if event.register not in by_z and can_be_reached(event.register, event.before)]


def not_held(events: Iterable[Event], stretch: Stretch) -> list[Loss]:
    """Of what these sets give, the last value of each register, that which the vCPU does not hold at the end."""
    held = stretch.end.registers
    given = {event.register: event for event in events}
    found = (
        Loss(reg_id, event.data, held.get(reg_id, b"")[: regid.size_bytes(event.reg_id)])
        for reg_id, event in given.items()
    )
    return [loss for loss in found if loss.differing]
