"""What a guest's instructions take: numbers of registers, data of their length, values, modes."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, SupportsIndex

from ..errors import GuestUndefined, check_flag, check_number
from ..facts import SVCR_SM, SVCR_ZA
from . import right_ways
from .closed import Closed


class Bank(Closed):
    """A numbered set of registers: `bank[n]` reads bytes, `bank[n] = data` writes them."""

    __slots__ = ("_read", "_write")
    NOUN = "a set of registers"
    RIGHT_WAYS = right_ways.BANK

    def __init__(self, read: Callable[[int], bytes], write: Callable[[int, Any], None]) -> None:
        self._read = read
        self._write = write

    def __getitem__(self, n: SupportsIndex) -> bytes:
        return self._read(index(n))

    def __setitem__(self, n: SupportsIndex, data: Any) -> None:
        self._write(index(n), data)


def mode_bits(instruction: str, sm: bool | None, za: bool | None) -> int:
    """What an SMSTART or SMSTOP of these arguments switches."""
    if sm is None and za is None:
        return SVCR_SM | SVCR_ZA
    streaming, matrix = (flag is not None and check_flag(what, flag) for what, flag in (("sm", sm), ("za", za)))
    if None in (sm, za) and not (streaming or matrix):
        named, other = ("sm", "za") if za is None else ("za", "sm")
        raise ValueError(
            f"{instruction}({named}=False) would do nothing: {instruction}({other}=True) leaves {named} alone"
        )
    return SVCR_SM * streaming | SVCR_ZA * matrix


def control_value(register: str, value: SupportsIndex) -> int:
    return check_number(register, value, 0, 1 << 64)


def need(there: bool, what: str) -> None:
    if not there:
        raise GuestUndefined(f"{what} is UNDEFINED for this guest, in this mode")


def check_named(what: str, n: int, count: int) -> None:
    """IndexError for a register that no instruction can name."""
    if not 0 <= n < count:
        raise IndexError(f"there is no {what}{n}: they go from 0 to {count - 1}")


def exactly(size: int, data: Any, what: str) -> bytes:
    """The data, which is as long as the register; ValueError otherwise."""
    raw = memoryview(data).tobytes()
    if len(raw) != size:
        raise ValueError(f"{what} has {size} bytes at the length in force, not {len(raw)}")
    return raw
