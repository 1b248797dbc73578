"""Comparisons say what differs first, where, and both values."""

from __future__ import annotations

import pytest

from kvmsve.ops import operations
from kvmsve.ops.outcome import Difference, compare_bytes, compare_number


def said(*arguments: object, **named: object) -> str:
    with pytest.raises(Difference) as caught:
        (compare_number if len(arguments) == 3 and isinstance(arguments[1], int) else compare_bytes)(
            *arguments, **named
        )
    return str(caught.value.args[0])


def test_equal_things_pass() -> None:
    compare_number("n", 3, 3)
    compare_bytes(b"", b"")
    compare_bytes(b"ab", b"ab", "Z1", b"\xff\xff")


def test_number() -> None:
    assert said("rdvl", 32, 64) == "rdvl: expected 32, actual 64"


@pytest.mark.parametrize(
    ("expected", "actual", "register", "text"),
    [
        (b"\x00", b"\x01", "", "byte 0: expected 0x00, actual 0x01"),
        (b"\x00\x11\x22", b"\x00\x0a\x0b", "", "byte 1: expected 0x11, actual 0x0a"),
        (bytes(256), bytes(255) + b"\x80", "Z31", "Z31: byte 255: expected 0x00, actual 0x80"),
        (b"\x01", b"\x01\x00", "", "expected 1 bytes, actual 2"),
        (b"", b"\x00", "P0", "P0: expected 0 bytes, actual 1"),
    ],
)
def test_first_differing_byte(expected: bytes, actual: bytes, register: str, text: str) -> None:
    assert said(expected, actual, register) == text


def test_mask_says_which_bits_count() -> None:
    compare_bytes(b"\xfe\xff", b"\x02\x00", mask=b"\x03\x00")
    assert said(b"\xfe\xff", b"\x01\x00", mask=b"\x03\x00") == "byte 0: expected 0xfe, actual 0x01"
    assert said(b"\x00\x00\x01", b"\x00\xff\x00", mask=b"\xff\x00") == "byte 2: expected 0x01, actual 0x00"


def test_length_counts_under_any_mask() -> None:
    assert said(b"\x00\x00", b"\x00", mask=b"\x00\x00") == "expected 2 bytes, actual 1"


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (operations.Get(vcpu=0, reg_id=0x6080_0000_0015_0060), "get of Z3"),
        (operations.SetShort(vcpu=0, reg_id=0x6050_0000_0015_0600, avail=0, buf=b""), "set_short of FFR"),
        (operations.Get(vcpu=0, reg_id=0x6040_0000_0010_0054), "get of V0"),
        (operations.Set(vcpu=0, reg_id=0x6030_0000_0013_DA12, data=bytes(8)), "set of SVCR"),
        (operations.Run(vcpu=1), "run"),
    ],
)
def test_operation_is_described_by_the_register_name(op: operations.Operation, text: str) -> None:
    assert str(op) == text
    difference = Difference("byte 0", "0x00", "0x01")
    difference.line, difference.op = 7, op
    assert str(difference) == f"line 7, {text}: byte 0: expected 0x00, actual 0x01"
