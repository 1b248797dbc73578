"""What a call can end in besides its result."""

from __future__ import annotations

from errno import errorcode
from operator import index
from typing import SupportsIndex


class KvmError(OSError):
    """An ioctl was refused: `errno` tells how, the message tells by which rule.

    `n` is the number of registers there really are when KVM_GET_REG_LIST answers E2BIG, else None.
    """

    def __init__(self, errno: int, rule: str, *named: object, n: int | None = None) -> None:
        """`rule` has a {} for each of `named`, which are put into words only where somebody reads them."""
        super().__init__(errno, rule)
        self._named = named
        self.n = n

    @property
    def strerror(self) -> str:  # type: ignore[override]
        """The rule, in words."""
        rule: str = self.args[1]
        return rule.format(*self._named) if self._named else rule

    @property
    def symbol(self) -> str:
        """The errno's name, as ENOENT."""
        return errorcode[self.args[0]]

    def __str__(self) -> str:
        return f"{self.symbol}: {self.strerror}"


def check_number(what: str, number: SupportsIndex, start: int, stop: int) -> int:
    """The number as an int, from `start` to below `stop`; TypeError for no whole number, ValueError for another."""
    try:
        value = index(number)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {number!r}") from None
    if not start <= value < stop:
        raise ValueError(f"{what} is a number from {start} to {stop - 1}, not {value}")
    return value


def check_flag(what: str, flag: object) -> bool:
    """The flag as a bool, which it is, or 0 or 1; TypeError for anything else, whatever its truth."""
    if flag not in (0, 1):
        raise TypeError(f"{what} is True or False, not {flag!r}")
    return bool(flag)


class BadInput(Exception):
    """What a user gave cannot be used; the message is one line that says what to do instead."""


class HostOops(Exception):
    """The kernel as posted would have crashed here; nothing after this has a meaning."""


class GuestUndefined(Exception):
    """The guest's instruction took an exception to EL1 and had no effect: the register is not there in this mode."""
