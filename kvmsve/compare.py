"""Comparison of what was recorded with what the model did: exact, and precise about the first difference."""

from __future__ import annotations

from . import regid
from .schema import Op


class Difference(Exception):
    """The model did something else than the recorded kernel; `line` is the operation's."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.line = 0
        self.op: Op = {}

    def __str__(self) -> str:
        return f"line {self.line}, {describe(self.op)}: {self.args[0]}"


def describe(op: Op) -> str:
    """The operation and its register by name."""
    return f"{op['op']} of {regid.name(int(op['id'], 16))}" if "id" in op else str(op.get("op"))


def compare_number(what: str, expected: int, actual: int) -> None:
    if expected != actual:
        raise Difference(f"{what}: expected {expected}, actual {actual}")


def compare_bytes(expected: bytes, actual: bytes, register: str = "", mask: bytes = b"") -> None:
    """Difference at the first byte that differs under the mask (of ones where there is none)."""
    prefix = f"{register}: " if register else ""
    if len(expected) != len(actual):
        raise Difference(f"{prefix}expected {len(expected)} bytes, actual {len(actual)}")
    if expected == actual:
        return
    for position, (want, have) in enumerate(zip(expected, actual, strict=True)):
        if (want ^ have) & (mask[position] if position < len(mask) else 0xFF):
            raise Difference(f"{prefix}byte {position}: expected 0x{want:02x}, actual 0x{have:02x}")
