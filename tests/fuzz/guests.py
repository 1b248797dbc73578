"""What the guests of two vCPUs do: reads and writes of every kind of register, right and wrong."""

from __future__ import annotations

from kvmsve import Guest

from .arguments import buffer, content, number
from .machines import Machines, outcome

GUEST_CONTROLS = ["svcr", "zcr", "smcr", "fpsr", "fpcr", "cpacr", "fpmr", "tpidr2", "smidr", "smpri", "vl", "svl"]
Guests = tuple[Guest, Guest]


def _read_control(machines: Machines, guests: Guests) -> str:
    name = machines.pick.PickValueInList(GUEST_CONTROLS)
    return machines.both([lambda guest=guest: getattr(guest, name) for guest in guests])[0]


def _write_control(machines: Machines, guests: Guests) -> str:
    name = machines.pick.PickValueInList(GUEST_CONTROLS[:7])
    value = number(machines.pick, machines.pick.PickValueInList([0, 1, 2, 3, 15, 0x8000000F, 0x4000000F, 0xC0000003]))
    return machines.both([lambda value, guest=guest: setattr(guest, name, value) for guest in guests], value)[0]


def _switch(machines: Machines, guests: Guests) -> str:
    name = machines.pick.PickValueInList(["smstart", "smstop"])
    modes = machines.pick.PickValueInList([{}, {"sm": True}, {"za": True}, {"sm": True, "za": True}, {"sm": False}])
    return machines.both([lambda guest=guest: getattr(guest, name)(**modes) for guest in guests])[0]


def _narrow(machines: Machines, guests: Guests) -> str:
    vl = number(machines.pick, 16 * machines.pick.ConsumeIntInRange(0, 17))
    return machines.both([guest.narrow for guest in guests], vl)[0]


def _read_bank(machines: Machines, guests: Guests) -> str:
    bank = machines.pick.PickValueInList(["z", "p", "v", "za"])
    n = number(machines.pick, machines.pick.ConsumeIntInRange(0, 35))
    return machines.both([getattr(guest, bank).__getitem__ for guest in guests], n)[0]


def _write_bank(machines: Machines, guests: Guests) -> str:
    """Data is mostly of the length that the register has."""
    pick = machines.pick
    bank = pick.PickValueInList(["z", "p", "v", "za"])
    n = number(pick, pick.ConsumeIntInRange(0, 33))
    now = outcome(getattr(guests[0], bank).__getitem__, n[0])
    outcome(getattr(guests[1], bank).__getitem__, n[0])
    data = buffer(pick, content(pick, len(now[1]) if now[0] == "returned" else 16))
    return machines.both([getattr(guest, bank).__setitem__ for guest in guests], n, data)[0]


def _write_special(machines: Machines, guests: Guests) -> str:
    pick = machines.pick
    name = pick.PickValueInList(["ffr", "zt0"])
    now = outcome(getattr, guests[0], name)
    outcome(getattr, guests[1], name)
    data = buffer(pick, content(pick, len(now[1]) if now[0] == "returned" else 16))
    return machines.both([lambda data, guest=guest: setattr(guest, name, data) for guest in guests], data)[0]


GUEST_ACTS = [_read_control, _write_control, _switch, _narrow, _read_bank, _write_bank, _write_bank, _write_special]
