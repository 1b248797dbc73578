"""A guest whose every act is appended to a list of steps, as a recorded run has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import index
from typing import Any, SupportsIndex

from ..errors import GuestUndefined
from ..machine import Guest
from ..ops import CONTROL_REGS, READ_ONLY_REGS
from .schema import Op


@contextmanager
def _attempted(steps: list[Op], what: str) -> Iterator[None]:
    """The block is an access that is recorded as `undef` if it is UNDEFINED."""
    try:
        yield
    except GuestUndefined:
        steps.append({"undef": what})
        raise


class RecordedGuest:
    """A Guest that is recorded."""

    def __init__(self, guest: Guest, steps: list[Op]) -> None:
        self._guest = guest
        self._steps = steps
        self.z = RecordedBank(guest, steps, "z")
        self.p = RecordedBank(guest, steps, "p")
        self.v = RecordedBank(guest, steps, "v")
        self.za = RecordedZa(guest, steps)

    def smstart(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """As Guest.smstart."""
        self._switch("smstart", sm, za)

    def smstop(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """As Guest.smstop."""
        self._switch("smstop", sm, za)

    def _switch(self, instruction: str, sm: bool | None, za: bool | None) -> None:
        with _attempted(self._steps, "svcr"):
            getattr(self._guest, instruction)(sm=sm, za=za)
        both = sm is None and za is None
        switched = [{instruction: mode} for mode, on in (("sm", sm), ("za", za)) if on or both]
        self._steps += switched or [{"mrs": "svcr", "value": f"{self._guest.svcr:x}"}]

    def narrow(self, vl: int) -> None:
        """As Guest.narrow."""
        with _attempted(self._steps, "vl"):
            self._guest.narrow(vl)
        self._steps.append({"narrow": vl})

    @property
    def vl(self) -> int:
        """As Guest.vl."""
        with _attempted(self._steps, "vl"):
            vl = self._guest.vl
        self._steps.append({"rdvl": vl})
        return vl

    @property
    def svl(self) -> int:
        """As Guest.svl."""
        with _attempted(self._steps, "svl"):
            svl = self._guest.svl
        self._steps.append({"rdsvl": svl})
        return svl

    @property
    def ffr(self) -> bytes:
        """As Guest.ffr."""
        with _attempted(self._steps, "ffr"):
            data = self._guest.ffr
        self._steps.append({"read": "ffr", "vl": self._guest.vl, "data": data.hex()})
        return data

    @ffr.setter
    def ffr(self, data: Any) -> None:
        with _attempted(self._steps, "ffr"):
            self._guest.ffr = data
        self._steps.append({"write": "ffr", "vl": self._guest.vl, "data": self._guest.ffr.hex()})

    @property
    def zt0(self) -> bytes:
        """As Guest.zt0."""
        with _attempted(self._steps, "zt0"):
            data = self._guest.zt0
        self._steps.append({"read": "zt0", "data": data.hex()})
        return data

    @zt0.setter
    def zt0(self, data: Any) -> None:
        with _attempted(self._steps, "zt0"):
            self._guest.zt0 = data
        self._steps.append({"write": "zt0", "data": self._guest.zt0.hex()})


def _read(name: str) -> Callable[[RecordedGuest], int]:
    """A read of a control register, recorded as `mrs`."""

    def read(self: RecordedGuest) -> int:
        with _attempted(self._steps, name):
            value = int(getattr(self._guest, name))
        self._steps.append({"mrs": name, "value": f"{value:x}"})
        return value

    return read


def _write(name: str) -> Callable[[RecordedGuest, int], None]:
    """A write of a control register, recorded as `msr`."""

    def write(self: RecordedGuest, value: int) -> None:
        with _attempted(self._steps, name):
            setattr(self._guest, name, value)
        self._steps.append({"msr": name, "value": f"{index(value) & (1 << 64) - 1:x}"})

    return write


for _name in CONTROL_REGS:
    setattr(RecordedGuest, _name, property(_read(_name), _write(_name), doc=f"As Guest.{_name}."))
for _name in READ_ONLY_REGS:
    setattr(RecordedGuest, _name, property(_read(_name), doc=f"As Guest.{_name}."))


class RecordedBank:
    """A bank of Z, P or V registers that is recorded."""

    def __init__(self, guest: Guest, steps: list[Op], name: str) -> None:
        self._guest = guest
        self._steps = steps
        self._name = name

    def __getitem__(self, n: SupportsIndex) -> bytes:
        with _attempted(self._steps, "vl"):
            data: bytes = getattr(self._guest, self._name)[n]
        self._append("read", index(n), data)
        return data

    def __setitem__(self, n: SupportsIndex, data: Any) -> None:
        bank = getattr(self._guest, self._name)
        with _attempted(self._steps, "vl"):
            bank[n] = data
        self._append("write", index(n), bank[n])

    def _append(self, access: str, n: int, data: bytes) -> None:
        length = {} if self._name == "v" else {"vl": self._guest.vl}
        self._steps.append({access: f"{self._name}{n}", **length, "data": data.hex()})


class RecordedZa:
    """The rows of ZA; the format has only all of them at once."""

    def __init__(self, guest: Guest, steps: list[Op]) -> None:
        self._guest = guest
        self._steps = steps

    def __getitem__(self, row: int) -> bytes:
        with _attempted(self._steps, "za"):
            data = self._guest.za[row]
        self._append("read")
        return data

    def __setitem__(self, row: int, data: Any) -> None:
        with _attempted(self._steps, "za"):
            self._guest.za[row] = data
        self._append("write")

    def _append(self, access: str) -> None:
        svl = self._guest.svl
        rows = b"".join(self._guest.za[row] for row in range(svl))
        self._steps.append({access: "za", "vl": svl, "data": rows.hex()})
