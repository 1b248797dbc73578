"""A guest whose every act is appended to a list of steps, as a recorded run has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import index
from typing import Any, SupportsIndex

from ..errors import GuestUndefined
from ..machine import Guest
from ..ops import (
    CONTROL_REGS,
    READ_ONLY_REGS,
    Mode,
    Mrs,
    Msr,
    Narrow,
    RdSvl,
    RdVl,
    Read,
    SmStart,
    SmStop,
    Step,
    Undef,
    Write,
)
from ..rules import ALL_BITS


@contextmanager
def _attempted(steps: list[Step], what: str) -> Iterator[None]:
    """The block is an access that is recorded as `undef` if it is UNDEFINED."""
    try:
        yield
    except GuestUndefined:
        steps.append(Undef(what=what))
        raise


class RecordedGuest:
    """A Guest that is recorded."""

    def __init__(self, guest: Guest, steps: list[Step]) -> None:
        self._guest = guest
        self._steps = steps
        self.z = RecordedBank(guest, steps, "z")
        self.p = RecordedBank(guest, steps, "p")
        self.v = RecordedBank(guest, steps, "v")
        self.za = RecordedBank(guest, steps, "za")

    def smstart(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """As Guest.smstart."""
        with _attempted(self._steps, "svcr"):
            self._guest.smstart(sm=sm, za=za)
        self._steps += [SmStart(mode=mode) for mode in _modes(sm, za)] or [self._read_svcr()]

    def smstop(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """As Guest.smstop."""
        with _attempted(self._steps, "svcr"):
            self._guest.smstop(sm=sm, za=za)
        self._steps += [SmStop(mode=mode) for mode in _modes(sm, za)] or [self._read_svcr()]

    def _read_svcr(self) -> Step:
        return Mrs(register="svcr", value=self._guest.svcr)

    def narrow(self, vl: int) -> None:
        """As Guest.narrow."""
        with _attempted(self._steps, "vl"):
            self._guest.narrow(vl)
        self._steps.append(Narrow(vl=vl))

    @property
    def vl(self) -> int:
        """As Guest.vl."""
        with _attempted(self._steps, "vl"):
            vl = self._guest.vl
        self._steps.append(RdVl(vl=vl))
        return vl

    @property
    def svl(self) -> int:
        """As Guest.svl."""
        with _attempted(self._steps, "svl"):
            svl = self._guest.svl
        self._steps.append(RdSvl(svl=svl))
        return svl

    @property
    def ffr(self) -> bytes:
        """As Guest.ffr."""
        with _attempted(self._steps, "ffr"):
            data = self._guest.ffr
        self._steps.append(Read(what="ffr", vl=self._guest.vl, data=data))
        return data

    @ffr.setter
    def ffr(self, data: Any) -> None:
        with _attempted(self._steps, "ffr"):
            self._guest.ffr = data
        self._steps.append(Write(what="ffr", vl=self._guest.vl, data=self._guest.ffr))

    @property
    def zt0(self) -> bytes:
        """As Guest.zt0."""
        with _attempted(self._steps, "zt0"):
            data = self._guest.zt0
        self._steps.append(Read(what="zt0", data=data))
        return data

    @zt0.setter
    def zt0(self, data: Any) -> None:
        with _attempted(self._steps, "zt0"):
            self._guest.zt0 = data
        self._steps.append(Write(what="zt0", data=self._guest.zt0))


def _read(name: str) -> Callable[[RecordedGuest], int]:
    """A read of a control register, recorded as `mrs`."""

    def read(self: RecordedGuest) -> int:
        with _attempted(self._steps, name):
            value = int(getattr(self._guest, name))
        self._steps.append(Mrs(register=name, value=value))
        return value

    return read


def _write(name: str) -> Callable[[RecordedGuest, int], None]:
    """A write of a control register, recorded as `msr`."""

    def write(self: RecordedGuest, value: int) -> None:
        with _attempted(self._steps, name):
            setattr(self._guest, name, value)
        self._steps.append(Msr(register=name, value=index(value) & ALL_BITS))

    return write


for _name in CONTROL_REGS:
    setattr(RecordedGuest, _name, property(_read(_name), _write(_name), doc=f"As Guest.{_name}."))
for _name in READ_ONLY_REGS:
    setattr(RecordedGuest, _name, property(_read(_name), doc=f"As Guest.{_name}."))


class RecordedBank:
    """A bank of Z, P, V or ZA registers that is recorded."""

    def __init__(self, guest: Guest, steps: list[Step], name: str) -> None:
        self._guest = guest
        self._steps = steps
        self._name = name
        self._refused = "za" if name == "za" else "vl"  # the step's word for an access that is UNDEFINED

    def __getitem__(self, n: SupportsIndex) -> bytes:
        with _attempted(self._steps, self._refused):
            data: bytes = getattr(self._guest, self._name)[n]
        self._steps.append(Read(what=f"{self._name}{index(n)}", vl=self._vl, data=data))
        return data

    def __setitem__(self, n: SupportsIndex, data: Any) -> None:
        bank = getattr(self._guest, self._name)
        with _attempted(self._steps, self._refused):
            bank[n] = data
        self._steps.append(Write(what=f"{self._name}{index(n)}", vl=self._vl, data=bank[n]))

    @property
    def _vl(self) -> int | None:
        """The length in force; V has none."""
        if self._name == "v":
            return None
        return self._guest.svl if self._name == "za" else self._guest.vl


def _modes(sm: bool | None, za: bool | None) -> list[Mode]:
    """What an SMSTART or SMSTOP of these arguments switches."""
    if sm is None and za is None:
        return ["sm", "za"]
    modes: dict[Mode, bool | None] = {"sm": sm, "za": za}
    return [mode for mode, is_meant in modes.items() if is_meant]
