"""The guest's part of a recorded run: steps that a guest takes, and what it reads (tests/recordings/FORMAT.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter

from ..errors import GuestUndefined
from ..facts import NUM_PREGS, NUM_ZREGS, layout
from ..machine import Guest
from ..rules import ALL_BITS
from .guest_steps import Mrs, Msr, Narrow, RdSvl, RdVl, Read, SmStart, SmStop, Step, Undef, Write
from .outcome import Observation

CPACR_ZEN_EL1 = 1 << 16


REGISTER = re.compile("(z|p|v|za)([0-9]{1,4})")


def take_step(guest: Guest, step: Step) -> None:
    """The guest has done what the step says, and read what it says. Difference otherwise."""
    for observation in observe_step(guest, step):
        observation.check()


def observe_step(guest: Guest, step: Step) -> Iterator[Observation]:
    """The guest does what the step says, and what it sees is told as it goes.

    GuestUndefined where an instruction is, ValueError or IndexError for a step that no guest can take. A step at
    another length than the one in force ends there.
    """
    match step:
        case Msr():
            _write_control(guest, step.register, step.value)
        case Mrs():
            yield _read_control(guest, step.register, step.value, ALL_BITS if step.mask is None else step.mask)
        case SmStart():
            guest.smstart(**{step.mode: True})
        case SmStop():
            guest.smstop(**{step.mode: True})
        case RdVl():
            yield Observation("rdvl", step.vl, guest.vl)
        case RdSvl():
            yield Observation("rdsvl", step.svl, guest.svl)
        case Narrow():
            guest.narrow(step.vl)
        case Undef():
            yield Observation(step.what, "UNDEFINED", "UNDEFINED" if _is_undefined(guest, step.what) else "an access")
        case Write():
            yield from _move(guest, step, _write_register)
        case Read():
            yield from _move(guest, step, _read_register)


CONTROL_REGS = ("zcr", "smcr", "cpacr", "fpsr", "fpcr", "svcr", "fpmr")
READ_ONLY_REGS = ("tpidr2", "smidr", "smpri")
PROBES: Mapping[str, Callable[[Guest], object]] = {  # by the format's words
    "sve": attrgetter("vl"),
    "za": lambda guest: guest.za[0],
    **{name: attrgetter(name) for name in ("ffr", "zt0", "vl", "svl", *CONTROL_REGS, *READ_ONLY_REGS)},
}


def _write_control(guest: Guest, register: str, value: int) -> None:
    if register in CONTROL_REGS:
        setattr(guest, register, value)
    elif register == "smpri":
        _ = guest.smpri  # RES0
    else:
        raise ValueError(f"no control register is called {register!r}")


def _read_control(guest: Guest, register: str, recorded: int, mask: int) -> Observation:
    if register not in (*CONTROL_REGS, *READ_ONLY_REGS):
        raise ValueError(f"no control register is called {register!r}")
    actual = int(getattr(guest, register))
    expected = recorded if (recorded ^ actual) & mask else actual
    return Observation(f"mrs {register}", f"0x{expected:x}", f"0x{actual:x}")


def _is_undefined(guest: Guest, what: str) -> bool:
    """The instruction takes an exception: by CPACR_EL1, or because this guest has no such thing."""
    if what not in PROBES:
        raise ValueError(f"no instruction is called {what!r}")
    if what == "sve" and not guest.cpacr & CPACR_ZEN_EL1:
        return True
    try:
        PROBES[what](guest)
    except GuestUndefined:
        return True
    return False


Mover = Callable[[Guest, str, int | None, bytes], Iterator[Observation]]


def _write_register(guest: Guest, bank: str, number: int | None, data: bytes) -> Iterator[Observation]:
    if number is None:
        setattr(guest, bank, data)
    else:
        getattr(guest, bank)[number] = data
    return iter(())


def _read_register(guest: Guest, bank: str, number: int | None, data: bytes) -> Iterator[Observation]:
    actual = getattr(guest, bank) if number is None else getattr(guest, bank)[number]
    yield Observation(bank.upper() if number is None else f"{bank.upper()}{number}", data, actual)


def _move(guest: Guest, step: Read | Write, mover: Mover) -> Iterator[Observation]:
    """Every register that the step names is moved, its share of the data at a time."""
    if step.vl is not None:
        in_force = guest.svl if step.what.startswith("za") else guest.vl
        yield Observation("the length in force", step.vl, in_force)
        if step.vl != in_force:
            return
    position = 0
    for bank, number, size in _registers(guest, step.what):
        yield from mover(guest, bank, number, step.data[position : position + size])
        position += size
    yield Observation("bytes of the step", len(step.data), position)


def _registers(guest: Guest, what: str) -> Iterator[tuple[str, int | None, int]]:
    """Bank, number and size of each register that a step's `what` stands for."""
    if what in ("zpffr", "zp"):
        yield from (("z", n, guest.vl) for n in range(NUM_ZREGS))
        yield from (("p", n, guest.vl // 8) for n in range(NUM_PREGS))
        if what == "zpffr":
            yield "ffr", None, guest.vl // 8
    elif what == "v":
        yield from (("v", n, layout.VREG_BYTES) for n in range(NUM_ZREGS))
    elif what == "za":
        yield from (("za", row, guest.svl) for row in range(guest.svl))
    elif what in ("ffr", "zt0"):
        yield what, None, layout.ZT0_BYTES if what == "zt0" else guest.vl // 8
    elif named := REGISTER.fullmatch(what):
        yield named[1], int(named[2]), _size(guest, named[1])
    else:
        raise ValueError(f"no register is called {what!r}")


def _size(guest: Guest, bank: str) -> int:
    """The bytes of one register of a bank."""
    match bank:
        case "v":
            return layout.VREG_BYTES
        case "p":
            return guest.vl // 8
        case "za":
            return guest.svl
        case _:
            return guest.vl
