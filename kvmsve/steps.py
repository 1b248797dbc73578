"""The guest's part of a recorded run: steps that a guest takes, and what it must read (tests/recordings/FORMAT.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import layout
from .compare import Difference, compare_bytes, compare_number
from .errors import GuestUndefined
from .guest import Guest
from .layout import NUM_PREGS, NUM_ZREGS
from .schema import Op

CPACR_ZEN_EL1 = 1 << 16


def take_step(guest: Guest, step: Op) -> None:
    """The guest has done what the step says, and read what it says. Difference otherwise."""
    match step:
        case {"msr": register, "value": value}:
            _write_control(guest, register, int(value, 16))
        case {"mrs": register, "value": value}:
            mask = int(step.get("mask", "f" * 16), 16)
            actual = _read_control(guest, register)
            if (int(value, 16) ^ actual) & mask:
                raise Difference(f"mrs {register}: expected 0x{value}, actual 0x{actual:x}")
        case {"smstart": mode}:
            guest.smstart(**{mode: True})
        case {"smstop": mode}:
            guest.smstop(**{mode: True})
        case {"rdvl": vl}:
            compare_number("rdvl", vl, guest.vl)
        case {"narrow": vl}:
            guest.narrow(vl)
        case {"undef": what}:
            _check_undefined(guest, what)
        case {"write": what, "data": data}:
            _move(guest, what, step.get("vl"), bytes.fromhex(data), _write_register)
        case {"read": what, "data": data}:
            _move(guest, what, step.get("vl"), bytes.fromhex(data), _compare_register)


CONTROL_REGS = ("zcr", "smcr", "cpacr", "fpsr", "fpcr", "svcr")


def _write_control(guest: Guest, register: str, value: int) -> None:
    if register in CONTROL_REGS:
        setattr(guest, register, value)
    elif register == "smpri":
        _ = guest.svcr  # SMPRI_EL1 is RES0 for a guest with SME
    else:
        raise ValueError(f"no control register is called {register!r}")


def _read_control(guest: Guest, register: str) -> int:
    if register in (*CONTROL_REGS, "tpidr2"):
        return int(getattr(guest, register))
    if register in ("smpri", "smidr"):
        _ = guest.svcr
        return 0
    raise ValueError(f"no control register is called {register!r}")


def _check_undefined(guest: Guest, what: str) -> None:
    """The instruction took an exception: by CPACR_EL1, or because this guest has no such thing."""
    probes: dict[str, Callable[[], object]] = {
        "sve": lambda: guest.vl,
        "ffr": lambda: guest.ffr,
        "zt0": lambda: guest.zt0,
        "smidr": lambda: guest.svcr,
    }
    if what not in probes:
        raise ValueError(f"no instruction is called {what!r}")
    if what == "sve" and not guest.cpacr & CPACR_ZEN_EL1:
        return
    try:
        probes[what]()
    except GuestUndefined:
        return
    raise Difference(f"{what}: expected UNDEFINED, actual an access")


Mover = Callable[[Guest, str, int | None, bytes], None]


def _write_register(guest: Guest, bank: str, number: int | None, data: bytes) -> None:
    if number is None:
        setattr(guest, bank, data)
    else:
        getattr(guest, bank)[number] = data


def _compare_register(guest: Guest, bank: str, number: int | None, data: bytes) -> None:
    actual = getattr(guest, bank) if number is None else getattr(guest, bank)[number]
    compare_bytes(data, actual, bank.upper() if number is None else f"{bank.upper()}{number}")


def _move(guest: Guest, what: str, vl: int | None, data: bytes, mover: Mover) -> None:
    """Every register that `what` names is moved, its share of `data` at a time."""
    if vl is not None:
        compare_number("the length in force", vl, guest.svl if what == "za" else guest.vl)
    position = 0
    for bank, number, size in _registers(guest, what):
        mover(guest, bank, number, data[position : position + size])
        position += size
    compare_number("bytes of the step", len(data), position)


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
    elif what[:1] in ("z", "p", "v") and what[1:].isdecimal():
        bank, number = what[0], int(what[1:])
        yield bank, number, layout.VREG_BYTES if bank == "v" else guest.vl // (8 if bank == "p" else 1)
    else:
        raise ValueError(f"no register is called {what!r}")
