"""Comparison of two outcomes, recorded and actual or those of two revisions: exact, and precise about what differs."""

from __future__ import annotations

from msgspec import Struct

from ..errors import GuestUndefined, HostOops, KvmError
from ..facts import regid
from .operations import Operation

Value = int | str | bytes | tuple[int, ...]  # IDs


class Difference(Exception):
    """Two outcomes that differ, and where first; `line` is the operation's."""

    def __init__(self, where: str, expected: str, actual: str) -> None:
        super().__init__(f"{_prefix(where)}expected {expected}, actual {actual}")
        self.where, self.expected, self.actual = where, expected, actual
        self.line = 0
        self.op: Operation | None = None

    def __str__(self) -> str:
        return f"line {self.line}, {self.op}: {self.args[0]}"


class Observation(Struct, frozen=True):
    """One thing that an operation lets its caller see, and what was recorded of it (None: nothing).

    `mask`: the bits of bytes that count; `why`: what is behind the actual value, for people.
    """

    what: str
    recorded: Value | None
    actual: Value
    mask: bytes = b""
    why: KvmError | HostOops | GuestUndefined | None = None

    def check(self) -> None:
        """Difference if the actual value is not the recorded one."""
        if self.recorded is not None and self.recorded != self.actual:
            self._compare(self.recorded, f" ({_reason(self.why)})" if self.why else "")

    def compare(self, other: Observation) -> None:
        """Difference if the other's actual value (the `expected` one) is not this one's."""
        if other.what != self.what or type(other.actual) is not type(self.actual):
            raise Difference("", _named(other), _named(self))
        if other.actual != self.actual:
            self._compare(other.actual)

    def _compare(self, expected: Value, why: str = "") -> None:
        match expected, self.actual:
            case int(), int():
                compare_number(self.what, expected, self.actual)
            case bytes(), bytes():
                compare_bytes(expected, self.actual, self.what, self.mask)
            case tuple(), tuple():
                _compare_entries(self.what, expected, self.actual)
            case _:
                raise Difference(self.what, _text(expected), f"{_text(self.actual)}{why}")


def compare_number(what: str, expected: int, actual: int) -> None:
    """Difference unless the numbers are the same."""
    if expected != actual:
        raise Difference(what, str(expected), str(actual))


def compare_bytes(expected: bytes, actual: bytes, register: str = "", mask: bytes = b"") -> None:
    """Difference at the first byte that differs under the mask (of ones where there is none)."""
    if len(expected) != len(actual):
        raise Difference(register, f"{len(expected)} bytes", str(len(actual)))
    if expected == actual:
        return
    for position, (want, have) in enumerate(zip(expected, actual, strict=True)):
        if (want ^ have) & (mask[position] if position < len(mask) else 0xFF):
            raise Difference(f"{_prefix(register)}byte {position}", f"0x{want:02x}", f"0x{have:02x}")


def _compare_entries(what: str, expected: tuple[int, ...], actual: tuple[int, ...]) -> None:
    compare_number(f"entries {what}", len(expected), len(actual))
    for position, (want, have) in enumerate(zip(expected, actual, strict=True)):
        if want != have:
            raise Difference(f"entry {position} of those {what}", regid.name(want), regid.name(have))


def _named(observation: Observation) -> str:
    return f"{_prefix(observation.what)}{_text(observation.actual)}"


def _reason(why: Exception) -> str:
    """What the exception says, without the errno's name."""
    return why.strerror if isinstance(why, KvmError) else str(why)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else "a value"


def _prefix(what: str) -> str:
    return f"{what}: " if what else ""
