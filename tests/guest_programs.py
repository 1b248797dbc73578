"""What the guests of random programs do: one step at a time, on the package and on a model alike."""

from __future__ import annotations

import random
from typing import Any

import model
from model import SME
from twin import Twin

POOL = random.Random(1).randbytes(1 << 16)


def some_bytes(rng: Any, size: int) -> bytes:
    start = rng.randrange(len(POOL) - size)
    return POOL[start : start + size]


BANKS = {"z": 32, "p": 16, "v": 32, "za": 0}
CONTROLS = ("svcr", "svcr", "zcr", "smcr", "smcr", "fpsr", "fpcr", "cpacr")
GUEST_STEPS = (
    *("z", "z", "p", "v", "za", "za", "ffr", "ffr", "zt0", "zt0"),
    *("smstart", "smstart", "smstop", "vl", "svl", "narrow", "control", "control", "control", "smpri", "tpidr2"),
)
BY_MODE_STEPS = (*GUEST_STEPS, "fpmr", "fpmr", "smidr")


def guest_step(twin: Twin, guest: Any, other: model.Guest, rng: Any) -> None:
    """One instruction; what it moves has the size that is in force, or rarely another."""
    name, write = rng.choice(BY_MODE_STEPS if twin.by_mode else GUEST_STEPS), rng.random() < 0.6
    vl = other._current()
    svl = other._length(SME) if other.vcpu.has(SME) else 16
    if name in BANKS or name in ("ffr", "zt0"):
        move(twin, guest, other, rng, name, write, {"z": vl, "v": 16, "za": svl, "zt0": 64}.get(name, vl // 8), svl)
    elif name in ("smidr", "smpri", "tpidr2"):
        twin.both((name,), lambda: getattr(guest, name), getattr(other, f"get_{name}"))
    elif name in ("control", "fpmr"):
        name = rng.choice(CONTROLS) if name == "control" else name
        value = rng.randrange(16) | rng.choice((0, 1, 2, 3, 3, 3)) << 30 | rng.choice((0, 0, 0, 1 << 63))
        if write or name == "cpacr":
            setter = getattr(other, f"set_{name}")
            twin.both((name, value), lambda: setattr(guest, name, value), lambda: setter(value))
        else:
            twin.both((name,), lambda: getattr(guest, name), getattr(other, f"get_{name}"))
    elif name in ("smstart", "smstop"):
        sm, za = rng.choice(((True, True), (True, False), (False, True), (False, False)))
        twin.both((name, sm, za), lambda: getattr(guest, name)(sm=sm, za=za), lambda: getattr(other, name)(sm, za))
    elif name in ("vl", "svl"):
        twin.both((name,), lambda: getattr(guest, name), getattr(other, name))
    elif other._scalable():
        twin.both((name, vl), lambda: guest.narrow(vl), lambda: other.narrow(vl))


def move(twin: Twin, guest: Any, other: model.Guest, rng: Any, name: str, write: bool, size: int, rows: int) -> None:
    """A load or a store of one register."""
    data = some_bytes(rng, size + (rng.random() < 0.03))
    reader, writer = getattr(other, f"read_{name}"), getattr(other, f"write_{name}")
    if name in BANKS:
        n, bank = rng.randrange(BANKS[name] or rows), getattr(guest, name)
        if write:
            twin.both((name, n, len(data), data[:16].hex()), lambda: bank.__setitem__(n, data), lambda: writer(n, data))
        else:
            twin.both((name, n), lambda: bank[n], lambda: reader(n))
    elif write:
        twin.both((name, len(data), data[:16].hex()), lambda: setattr(guest, name, data), lambda: writer(data))
    else:
        twin.both((name,), lambda: getattr(guest, name), reader)
